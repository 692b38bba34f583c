"""A detector derived from the prompts, for behaviours that name none: which side's answers does an answer look like?

1. The model, unsteered, answers the discovery prompts of both sides and those of development, greedily.
2. A logistic regression on the words, word pairs, shape and length of the discovery answers, L2-penalised, both sides
   weighing the same.
3. How well it tells the development answers apart is measured, and stands in the detector's description. One that
   can't tell them apart beyond chance is refused: then a detector has to be named.

It sees what sets the two sides' answers apart, whatever that is: where the sides also differ in subject, it may have
learnt the subject. A named detector is better; this one is better than a detector of something else.
"""

from __future__ import annotations

from neurodial.errors import OptionError
from neurodial.evaluation.detectors.base import Detector, Exchange, RuleDetector, Verdict
from neurodial.evaluation.intervals import wilson
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.text.answer_classifier import AnswerClassifier
from neurodial.text.degeneration import Degeneration

NAME = "derived"
_MOST = 60  # answers of each side


def derived_detector(
    subject: Subject, pairs: PairSet, *, decoding: Decoding | None = None, progress: Progress = silent
) -> Detector:
    """A detector of what sets the model's own answers to the two sides apart.

    Args:
        subject: the model, unsteered.
        pairs: discovery prompts to learn from, development prompts to check on.
        decoding: of the answers; greedy in any case.
        progress: shown while it runs.

    Raises:
        OptionError: it can't tell the development answers apart, or there are no development prompts.
    """
    decoding = decoding or Decoding()
    greedy = Decoding(decoding.max_new_tokens, batch_size=decoding.batch_size, system=decoding.system)
    learnt, held_out = (
        _answers(subject, contrast, greedy, progress) for contrast in (pairs.discovery, pairs.development)
    )
    classifier = AnswerClassifier.fit(*learnt)
    right = [classifier.probability(answer) > 0.5 for answer in held_out[0]]
    right += [classifier.probability(answer) <= 0.5 for answer in held_out[1]]
    accuracy = wilson(sum(right), len(right))
    told = f"{accuracy.value:.0%} [{accuracy.low:.0%}, {accuracy.high:.0%}, n = {accuracy.n}]"
    if accuracy.low <= 0.5:
        raise _undetected(
            pairs.behaviour, f"a classifier of the model's own answers tells {told} of held-out answers apart"
        )

    def decide(exchange: Exchange) -> Verdict:
        probability = classifier.probability(exchange.answer)
        return Verdict("shown" if probability > 0.5 else "absent", probability)

    description = (
        "Derived from the prompts, as no detector is named: a classifier of the model's own answers to both sides; "
        f"it tells {told} of held-out answers apart."
    )
    return RuleDetector(NAME, description, decide, Degeneration(wrong_language=False))


def undetected(behaviour: Behaviour) -> OptionError:
    """The error where nothing says how a behaviour is recognised."""
    return _undetected(behaviour, "it names no detector, and has no discovery and development prompts to learn one")


def _undetected(behaviour: Behaviour, reason: str) -> OptionError:
    return OptionError(
        f"Nothing says how the behaviour {behaviour.name!r} is recognised in an answer: {reason}.",
        wanted="a detector, such as regex:PATTERN, language:fr, length:50 or python:MODULE:FUNCTION",
        fix="Name one (--detectors, Evaluation(detectors=...), or `detector = ...` in the behaviour's TOML file); "
        "`neurodial detectors` lists them. A bare contrast needs behaviour=... or detectors.",
    )


def _answers(
    subject: Subject, contrast: Contrast, decoding: Decoding, progress: Progress
) -> tuple[list[str], list[str]]:
    few = contrast.first(_MOST)
    prompts = [example.prompt for example in (*few.positive, *few.negative)]
    texts = [answer.text for answer in generate(subject, prompts, decoding=decoding, progress=progress)]
    return texts[: len(few.positive)], texts[len(few.positive) :]
