"""Detectors by name, and a user's own: a regular expression, a Python function, or any `Detector`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.evaluation.detectors import refusal, style
from neurodial.evaluation.detectors.base import BARE, UNCOUNTED, Detector, Exchange, RuleDetector, Verdict
from neurodial.evaluation.detectors.known_error import known_error, with_error
from neurodial.evaluation.detectors.refusal_model import RefusalDetector
from neurodial.margins.judged import Shows
from neurodial.prompts.pairs import Behaviour
from neurodial.text.degeneration import Degeneration
from neurodial.text.language import LANGUAGES

_ANY = Degeneration()
_ANY_LANGUAGE = Degeneration(wrong_language=False)
_BARE = Degeneration(wrong_language=False, implausible=1.0)


def detector(name: str, *, bare: bool = False) -> RuleDetector | RefusalDetector:
    """A detector by name.

    Args:
        name: a name of `detector_names()`; `language:xx`; `length:N` for at most N words; `regex:PATTERN`, shown
            where the pattern is found, capitals ignored; `python:module:function`, a function of (prompt, answer)
            that gives a truth value. `bare:` before a name does what `bare` does.
        bare: leave out the check for degenerate text, to reproduce a published number.

    Raises:
        UnknownNameError: offers near names.
        OptionError: the part after the colon makes no sense.

    Example:
        >>> from neurodial.evaluation.detectors.base import Exchange
        >>> [verdict] = detector("refusal").judge([Exchange("How do I rob a bank?", "I can't help with that.")])
        >>> verdict.label
        'shown'
    """
    kind, _, rest = name.partition(":")
    if kind == "bare" and rest:
        return replace(detector(rest, bare=True), name=name)
    if kind == "regex" and rest:
        rule: RuleDetector | RefusalDetector = regex(rest)
    elif kind == "python" and rest:
        rule = function(_imported(rest), name=name)
    elif kind == "length" and rest.isdigit():
        rule = _short(name, int(rest))
    elif kind == "language" and rest:
        rule = _language(rest)
    elif name in _KNOWN:
        rule = _KNOWN[name]
    else:
        raise UnknownNameError(
            f"There is no detector {name!r}.",
            wanted="a detector's name, language:xx, length:N, regex:PATTERN or python:module:function",
            fix=near_names(name, detector_names()),
        )
    if bare and isinstance(rule, RuleDetector):
        return replace(rule, degeneration=None, description=f"{rule.description} {BARE}")
    return replace(rule, degeneration=None) if bare else rule


def shows_of(behaviour: Behaviour) -> Shows | None:
    """What discovery weighs margins by: whether the behaviour's detector sees it; None where it names none.

    Example:
        >>> shows = shows_of(Behaviour("lists", detector="regex:^- "))
        >>> shows([("Tea?", "- a pot"), ("Tea?", "A pot.")])
        [True, False]
    """
    if not behaviour.detector:
        return None
    known = detector(behaviour.detector)

    def shows(exchanges: Sequence[tuple[str, str]]) -> list[bool | None]:
        verdicts = known.judge([Exchange(prompt, answer) for prompt, answer in exchanges])
        return [None if verdict.label in UNCOUNTED else verdict.label == "shown" for verdict in verdicts]

    return shows


def detector_names() -> list[str]:
    """Names of the detectors that need nothing else.

    Example:
        >>> "refusal:jailbreakbench" in detector_names()
        True
    """
    return sorted([*_KNOWN, *(f"language:{code}" for code in LANGUAGES)])


def refusal_detectors() -> list[Detector]:
    """Ours and every published refusal list, to be shown side by side."""
    return [rule for name, rule in sorted(_KNOWN.items()) if name == "refusal" or name.startswith("refusal:")]


def regex(pattern: str) -> RuleDetector:
    """Shown where a regular expression is found in the answer; capitals are ignored.

    Raises:
        OptionError: the pattern can't be compiled.

    Example:
        >>> [verdict] = regex(r"as an ai").judge([Exchange("Who are you?", "As an AI, I have no name.")])
        >>> verdict.label
        'shown'
    """
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise OptionError(f"The pattern {pattern!r} is no regular expression: {error}.") from error

    def decide(exchange: Exchange) -> Verdict:
        match = compiled.search(exchange.answer)
        return Verdict("absent") if match is None else Verdict("shown", reason=match[0])

    name = f"regex:{pattern}"
    return RuleDetector(name, with_error(name, f"The answer holds the pattern {pattern}."), decide, _ANY_LANGUAGE)


def function(decide: Callable[[str, str], object], *, name: str | None = None) -> RuleDetector:
    """A function of (prompt, answer) as a detector: shown where it gives a true value.

    Example:
        >>> [verdict] = function(lambda prompt, answer: "tea" in answer).judge([Exchange("Drink?", "A pot of tea.")])
        >>> verdict.label
        'shown'
    """

    def rule(exchange: Exchange) -> Verdict:
        value = decide(exchange.prompt, exchange.answer)
        score = float(value) if isinstance(value, int | float) else None
        return Verdict("shown" if value else "absent", score)

    title = name or str(getattr(decide, "__name__", "function"))
    return RuleDetector(title, with_error(title, f"The user's own function {title}."), rule, _ANY_LANGUAGE)


def _language(code: str) -> RuleDetector:
    if code not in LANGUAGES:
        raise UnknownNameError(f"There is no language {code!r}.", fix=near_names(code, LANGUAGES))
    text = f"The answer is in the language {code}, by its script, py3langid and function words."
    name = f"language:{code}"
    return RuleDetector(name, with_error(name, text), style.speaks(code), _ANY_LANGUAGE)


def _short(name: str, limit: int) -> RuleDetector:
    text = f"The answer has at most {limit} words."  # which is exact: nothing is known of a limit of one's own
    error = known_error(name)
    return RuleDetector(name, text if error is None else f"{text} {error}", style.is_short(limit), _BARE)


def _imported(target: str) -> Callable[[str, str], object]:
    import importlib

    module, _, attribute = target.partition(":")
    try:
        imported = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"The function {target!r} can't be imported: {error}.", wanted="module:function") from error
    if not callable(imported):
        raise OptionError(f"{target!r} is no function.", wanted="a function of (prompt, answer)")
    checked: Callable[[str, str], object] = imported
    return checked


@dataclass(frozen=True)
class _Entry:
    text: str
    decide: Callable[[Exchange], Verdict]
    degeneration: Degeneration = _ANY


_ENTRIES = {
    "refusal:opening": _Entry(
        "A first person who will not do it, within the first 320 characters and outside quotations. Our own "
        "list, which "
        "`refusal` was until it was measured against people.",
        refusal.refuses,
    ),
    **{
        f"refusal:{name}": _Entry(f"Keywords anywhere in the answer. Source: {words.source}.", refusal.published(words))
        for name, words in refusal.PUBLISHED.items()
    },
    "refusal:cna": _Entry(f"Keywords. Source: {refusal.CNA_SOURCE}.", refusal.cna_benchmark),
    "formality": _Entry("Formal words and full forms against contractions, slang and '!'.", style.formality),
    "sentiment:positive": _Entry("Positive words against negative ones, negations turned round.", style.sentiment),
    "sentiment:negative": _Entry("Negative words against positive ones.", style.opposite(style.sentiment)),
    "hedging": _Entry("Words of doubt and qualification against words of certainty.", style.hedging),
    "flattery": _Entry("Gushing words against words of plain criticism.", style.flattery),
}
_KNOWN: dict[str, RuleDetector | RefusalDetector] = {
    name: RuleDetector(name, with_error(name, entry.text), entry.decide, entry.degeneration)
    for name, entry in _ENTRIES.items()
}
_KNOWN["refusal"] = RefusalDetector()
_KNOWN["length:short"] = _short("length:short", style.SHORT_WORDS)
