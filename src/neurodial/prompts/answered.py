"""What margins need beside a prompt: written answers, or the same request asked the other way.

Torch-free, so that what is missing is reported before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal

from neurodial.errors import MarginError
from neurodial.prompts.pairs import Behaviour, Contrast
from neurodial.prompts.prompt import Example, Prompt, prompt_key, prompt_text

MarginKind = Literal["behaviour", "alternatives", "openers", "spans", "answer", "own-answers"]
"""What a behaviour may be measured by; `behaviour`: as the prompt set asks and the model allows."""


def written_answers(example: Example, fallback: tuple[str, str] | None = None) -> tuple[str, str]:
    """The answer with the behaviour and that without, as the prompt file has them; else the fallback.

    Raises:
        MarginError: one is missing.

    Example:
        >>> written_answers(Example("Hi", positive_answer="Good day.", negative_answer="Hey"))
        ('Good day.', 'Hey')
    """
    if not example.positive_answer or not example.negative_answer:
        if fallback is not None:
            return fallback
        raise MarginError(
            f"The prompt {prompt_text(example.prompt)!r} has no pair of answers.",
            wanted="positive_answer and negative_answer on every prompt, for a margin of whole answers",
            fix="Add them to the prompt file, or take margin openers.",
        )
    return example.positive_answer, example.negative_answer


def both_ways(contrast: Contrast) -> dict[str, tuple[Prompt, Prompt]]:
    """For each prompt, by its key, the prompt with the behaviour and that without of its pair.

    Raises:
        MarginError: a prompt has no counterpart, or its counterpart is in another split.

    Example:
        >>> formal, casual = "Hi, formally", "Hi, casually"
        >>> pair = Example(formal, counterpart=casual), Example(casual, counterpart=formal)
        >>> both_ways(Contrast((pair[0],), (pair[1],)))["hi, casually"]
        ('Hi, formally', 'Hi, casually')
    """
    pairs = {}
    for examples, others in ((contrast.positive, contrast.negative), (contrast.negative, contrast.positive)):
        there = {prompt_key(example.prompt) for example in others}
        for example in examples:
            counterpart = _counterpart(example, there)
            pair = (example.prompt, counterpart) if examples is contrast.positive else (counterpart, example.prompt)
            pairs[prompt_key(example.prompt)] = pair
    return pairs


def refuse_missing(kind: MarginKind, behaviour: Behaviour, contrasts: Iterable[Contrast | None]) -> None:
    """Refuse prompts that lack what a kind of margin (`answer`, `own-answers`; others need nothing) reads.

    Raises:
        MarginError: names the first such prompt.

    Example:
        >>> refuse_missing("openers", Behaviour("mine"), [Contrast.of(["a"], ["b"])])
    """
    margin = behaviour.margin if kind == "behaviour" else kind
    for contrast in contrasts:
        if contrast is None:
            continue
        if margin == "own-answers":
            both_ways(contrast)
        elif margin == "answer":
            for example in (*contrast.positive, *contrast.negative):
                written_answers(example, behaviour.answers)


def _counterpart(example: Example, there: Container[str]) -> Prompt:
    """The other prompt of an example's pair, which is on the other side of the same split."""
    if example.counterpart is None:
        raise MarginError(
            f"The prompt {prompt_text(example.prompt)!r} has no counterpart.",
            wanted='prompts in pairs: "positive" and "negative", the same request, on one line of the file',
            fix="Pair them, or take another margin.",
        )
    if prompt_key(example.counterpart) not in there:
        raise MarginError(
            f"The counterpart of the prompt {prompt_text(example.prompt)!r} is in another split.",
            wanted="both prompts of a pair in one split",
            fix='Give each line of the file a "split".',
        )
    return example.counterpart
