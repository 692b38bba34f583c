"""How well a margin tells development answers apart, under what says whether they show the behaviour.

Two figures, and what a margin is worth is the lesser: how often the margin's own sign is right (that an answer begins
with an opening, or holds a span; that the margin is above 0), both kinds of answers weighing the same; and the AUROC of
the margin's values.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurodial.circuit.report import MarginAgreement
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.judged import JudgedAnswers
from neurodial.margins.margin import Alternatives
from neurodial.margins.measure import measure_margins
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Contrast


def weigh(
    subject: Subject,
    margin: BehaviourMargin,
    development: Contrast,
    judged: JudgedAnswers,
    *,
    system: str | None = None,
) -> MarginAgreement:
    """How well a margin tells the development answers apart.

    Args:
        subject: the model, unsteered.
        margin: of the behaviour.
        development: the prompts.
        judged: the answers to them, with their labels.
        system: a system message before every prompt.
    """
    values = measure_margins(subject, margin.pushed, [*development.positive, *development.negative], system=system)
    answers = [*judged.development.positive, *judged.development.negative]
    said = [_shows(margin, answer.tokens, value) for answer, value in zip(answers, values, strict=True)]
    known = [n for n, label in enumerate(judged.shown) if label is not None]
    labels = [bool(judged.shown[n]) for n in known]
    accuracy = (
        sum(
            _share([said[n] is label for n, label in zip(known, labels, strict=True) if label is side])
            for side in (True, False)
        )
        / 2
    )
    return MarginAgreement(accuracy, rank_auroc([values[n] for n in known], labels), len(known))


def rank_auroc(values: Sequence[float], labels: Sequence[bool]) -> float:
    """The chance that a value with the label is above one without, ties counting half; one half where none is compared.

    Example:
        >>> rank_auroc([3.0, 1.0, 2.0, 1.0], [True, True, False, False])
        0.625
    """
    shown = [value for value, label in zip(values, labels, strict=True) if label]
    lacking = [value for value, label in zip(values, labels, strict=True) if not label]
    above = [(a > b) + (a == b) / 2 for a in shown for b in lacking]
    return sum(above) / len(above) if above else 0.5


def _shows(margin: BehaviourMargin, tokens: Sequence[int], value: float) -> bool:
    if margin.shows is not None:
        return margin.shows.matches(tokens)
    if isinstance(margin.pushed, Alternatives):
        return not margin.pushed.openings.matches(tokens)
    return value > 0


def _share(outcomes: Sequence[bool]) -> float:
    return sum(outcomes) / len(outcomes) if outcomes else 0.5
