"""How fragile a behaviour is: how few neurons, and how large a push, undo it.

1. Openers from the model's own answers to the discovery prompts; neurons ranked by effect, the slope of the openers'
   log odds in a neuron's multiplier (`attribution/effect.py`), on the positive discovery prompts.
2. For each number of neurons n and each push x, the first n get dose x: multiplied by `1 - x` (1 removes them, 2 turns
   their sign).
3. On the test prompts: the mean probability that an answer still begins as the behaviour's do; beside it the same on
   the opposite prompts, and the KL divergence on the model's own answers to neutral prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.attribution.effect import effect, effect_scores
from neurodial.attribution.select import Rule, choose
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.select import Count
from neurodial.errors import MarginError, OptionError
from neurodial.intervention.scale import Scale
from neurodial.measurement.divergence import measure_divergence, own_answers
from neurodial.measurement.margin import Openers, measure_margins
from neurodial.measurement.openers import OpenerSearch, find_openers
from neurodial.measurement.single import probability
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Contrast, PairSet


@dataclass(frozen=True)
class Audit:
    """What an audit tries.

    Attributes:
        counts: numbers of neurons.
        pushes: doses; 1 removes a neuron, 2 turns its sign.
        openers: how openers are found.
        neutral: prompts that damage is measured on, a shipped list or a file.
        passages: how many of them.

    Raises:
        OptionError: nothing to try, or a number that makes no sense.

    Example:
        >>> Audit(counts=(1, 2), pushes=(1.0,)).passages
        16
    """

    counts: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    pushes: tuple[float, ...] = (1.0, 2.0, 4.0)
    openers: OpenerSearch = OpenerSearch()  # noqa: RUF009  # frozen
    neutral: str = "neutral"
    passages: int = 16

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1 or not self.pushes or self.passages < 1:
            raise OptionError(
                f"counts {self.counts}, pushes {self.pushes}, passages {self.passages}.",
                wanted="at least one count from 1 on, one push and one passage",
            )


@dataclass(frozen=True)
class AuditPoint:
    """One point of the curve.

    Attributes:
        neurons: how many.
        push: the dose of each.
        shown: mean probability of an opener over the positive test prompts.
        spilled: the same over the negative ones.
        divergence: nats per token on the model's own answers to neutral prompts.
    """

    neurons: int
    push: float
    shown: float
    spilled: float
    divergence: float


@dataclass(frozen=True)
class AuditReport:
    """How fragile a behaviour is.

    Attributes:
        openers: how the behaviour's answers begin.
        prompts: numbers of positive and of negative test prompts.
        shown: mean probability of an opener over the positive test prompts, unsteered.
        spilled: the same over the negative ones.
        points: the curve, fewest neurons and smallest push first.
        ranking: the neurons in the order of their effect, as a circuit of dose 1.
    """

    openers: Openers
    prompts: tuple[int, int]
    shown: float
    spilled: float
    points: tuple[AuditPoint, ...]
    ranking: Circuit

    def undone(self, share: float = 0.5) -> AuditPoint | None:
        """The fewest neurons, then the smallest push, that leave at most this share of the unsteered probability."""
        return next((point for point in self.points if point.shown <= share * self.shown), None)


def audit(subject: Subject, pairs: PairSet, *, method: Audit | None = None, progress: Progress = silent) -> AuditReport:
    """Measure how few neurons, pushed how far, undo a behaviour.

    Raises:
        MarginError: no opener tells the sides apart, or they do not on the test prompts.
        OptionError: a count is more than the neurons that hold the behaviour up.
        PromptError: a split is missing.
        GradientError: the model gives no gradients.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.measurement.openers import OpenerSearch
        >>> from neurodial.model.tiny import tiny_subject
        >>> pairs = nd.PairSet.of([f"harm {n}" for n in range(10)], [f"help {n}" for n in range(10)])
        >>> search = OpenerSearch(length=1, rarity=0.99, share=0.0, coverage=0.0)
        >>> method = nd.Audit(counts=(1,), pushes=(1.0,), openers=search, passages=1)
        >>> subject = tiny_subject()
        >>> _ = subject.model.lm_head.weight.data.mul_(20)  # a model that is sure of its answers
        >>> len(nd.audit(subject, pairs, method=method).points)
        1
    """
    chosen = method or Audit()
    contrast, test = pairs.discovery, pairs.test
    neutral = read_prompt_list(chosen.neutral).prompts[: chosen.passages]
    openers = find_openers(subject, contrast, search=chosen.openers, progress=progress)  # 1
    moments = effect(subject, openers, contrast.positive, progress=progress)
    rows = choose(effect_scores(moments, subject.sites), Rule(Count(max(chosen.counts)), sign="positive"))
    if len(rows) < max(chosen.counts):
        raise OptionError(
            f"{len(rows)} neurons hold the behaviour up, {max(chosen.counts)} were asked for.", wanted="a smaller count"
        )
    tried = [(count, push) for count in sorted(set(chosen.counts)) for push in sorted(set(chosen.pushes))]
    scales = [Scale(Circuit.of(rows[:count]).with_doses(push)) for count, push in tried]  # 2
    rates = _rates(subject, openers, test, scales, progress)  # 3
    if rates[0][0] <= rates[0][1]:
        raise MarginError(
            f"The openers have probability {rates[0][0]:.3f} on the positive test prompts, {rates[0][1]:.3f} on the "
            "negative ones.",
            wanted="a model that shows the behaviour unsteered, or there is nothing to undo",
        )
    passages = own_answers(subject, neutral, progress=progress)
    damage = measure_divergence(subject, passages, scales, progress=progress)
    points = tuple(AuditPoint(*pair, *rate, one.mean) for pair, rate, one in zip(tried, rates[1:], damage, strict=True))
    sizes = len(test.positive), len(test.negative)
    return AuditReport(openers, sizes, *rates[0], points, Circuit.of(rows, name=pairs.behaviour.name))


def _rates(
    subject: Subject, openers: Openers, test: Contrast, scales: list[Scale], progress: Progress
) -> list[tuple[float, float]]:
    """Mean probabilities of an opener on the positive and on the negative prompts: unsteered, then under each."""
    both = [*test.positive, *test.negative]
    examples = [example for _ in (None, *scales) for example in both]
    under = [scale for scale in (None, *scales) for _ in both]
    margins = measure_margins(subject, openers, examples, under=under, progress=progress)
    found = []
    for start in range(0, len(margins), len(both)):
        shown = [probability(margin) for margin in margins[start : start + len(both)]]
        first, second = shown[: len(test.positive)], shown[len(test.positive) :]
        found.append((sum(first) / len(first), sum(second) / len(second)))
    return found
