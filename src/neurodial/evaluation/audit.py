"""How fragile a behaviour is: how few neurons, and how large a push, undo it.

1. The margin, from the model's own answers to the discovery prompts: the log odds that an answer begins with none of
   the openings that answers without the behaviour have, or with one of the behaviour's openers (`margin.py`). Neurons
   ranked by effect, the margin's slope in a neuron's multiplier (`methods/dose/effect.py`), on the positive prompts.
2. For each number of neurons n and each push x, the first n get dose x: multiplied by `1 - x` (1 removes them, 2 turns
   their sign).
3. On the test prompts: the mean probability that an answer still begins so; beside it the same on the opposite
   prompts, and the KL divergence on the model's own answers to neutral prompts.
4. What is left of the behaviour is the part of the way between the two sides, unsteered, that remains: 1 where nothing
   changed, 0 where the positive prompts are answered as the negative ones are.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.selection import Count
from neurodial.errors import MarginError, OptionError
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.scale import Scale
from neurodial.margins.beginnings import OpenerSearch
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.margin import Alternatives, Openers
from neurodial.margins.measure import probabilities_by_side
from neurodial.margins.openers import OpeningMargin, refuse_unknown
from neurodial.methods.apart import check_apart, check_scores
from neurodial.methods.choose import Rule, choose
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet


@dataclass(frozen=True)
class Audit:
    """What an audit tries.

    Attributes:
        counts: numbers of neurons.
        pushes: doses; 1 removes a neuron, 2 turns its sign.
        margin: what undoing means. `alternatives`: answers begin as those without the behaviour do; `openers`: they no
            longer begin as the behaviour's do, which nonsense does not either.
        openers: how openers are found, for the margin `openers`.
        neutral: prompts that damage is measured on, a shipped list or a file.
        passages: how many of them.

    Raises:
        OptionError: nothing to try, or a number that makes no sense.
        UnknownNameError: there is no such margin.

    Example:
        >>> Audit(counts=(1, 2), pushes=(1.0,)).passages
        16
    """

    counts: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    pushes: tuple[float, ...] = (1.0, 2.0, 4.0)
    margin: OpeningMargin = "alternatives"
    openers: OpenerSearch = OpenerSearch()  # noqa: RUF009  # frozen
    neutral: str = "neutral"
    passages: int = 16

    def __post_init__(self) -> None:
        refuse_unknown(self.margin)
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
        shown: mean probability, over the positive test prompts, that an answer begins as the margin says.
        spilled: the same over the negative ones.
        left: what is left of the behaviour, 1 for all of it; of the way between the two sides unsteered.
        divergence: nats per token on the model's own answers to neutral prompts.
    """

    neurons: int
    push: float
    shown: float
    spilled: float
    left: float
    divergence: float


@dataclass(frozen=True)
class AuditReport:
    """How fragile a behaviour is.

    Attributes:
        margin: how answers without the behaviour begin, or how the behaviour's do.
        prompts: numbers of positive and of negative test prompts.
        shown: mean probability, over the positive test prompts, that an answer begins as the margin says, unsteered.
        spilled: the same over the negative ones.
        points: the curve, fewest neurons and smallest push first.
        ranking: the neurons in the order of their effect, as a circuit of dose 1.
    """

    margin: Alternatives | Openers
    prompts: tuple[int, int]
    shown: float
    spilled: float
    points: tuple[AuditPoint, ...]
    ranking: Circuit

    def undone(self, share: float = 0.5) -> AuditPoint | None:
        """The fewest neurons, then the smallest push, that leave at most this share of the behaviour."""
        return next((point for point in self.points if point.left <= share), None)


def audit(subject: Subject, pairs: PairSet, *, method: Audit | None = None, progress: Progress = silent) -> AuditReport:
    """Measure how few neurons, pushed how far, undo a behaviour.

    Raises:
        MarginError: no beginning of an answer tells the sides apart, or it does not on the test prompts.
        OptionError: a count is more than the neurons that hold the behaviour up.
        PromptError: a split is missing.
        GradientError: the model gives no gradients.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.margins.beginnings import OpenerSearch
        >>> from neurodial.model.tiny import tiny_subject
        >>> pairs = nd.PairSet.of([f"harm {n}" for n in range(10)], [f"help {n}" for n in range(10)])
        >>> search = OpenerSearch(length=1, rarity=0.99, share=0.0, coverage=0.0)
        >>> method = nd.Audit(counts=(1,), pushes=(1.0,), margin="openers", openers=search, passages=1)
        >>> subject = tiny_subject()
        >>> _ = subject.model.lm_head.weight.data.mul_(20)  # a model that is sure of its answers
        >>> len(nd.audit(subject, pairs, method=method).points)
        1
    """
    chosen = method or Audit()
    contrast, test = pairs.discovery, pairs.test
    neutral = read_prompt_list(chosen.neutral).prompts[: chosen.passages]
    check_apart(subject, contrast)
    margin = choose_margin(
        subject, pairs, kind=chosen.margin, splits=(), openers=chosen.openers, progress=progress
    ).openings  # 1
    moments = effect(subject, margin, contrast.positive, progress=progress)
    rows = choose(check_scores(effect_scores(moments, subject.sites)), Rule(Count(max(chosen.counts)), sign="positive"))
    if len(rows) < max(chosen.counts):
        raise OptionError(
            f"{len(rows)} neurons hold the behaviour up, {max(chosen.counts)} were asked for.", wanted="a smaller count"
        )
    tried = [(count, push) for count in sorted(set(chosen.counts)) for push in sorted(set(chosen.pushes))]
    scales = [Scale(Circuit.of(rows[:count]).with_doses(push)) for count, push in tried]  # 2
    (shown, spilled), *rates = probabilities_by_side(subject, margin, test, [None, *scales], progress=progress)  # 3
    if shown <= spilled:
        raise MarginError(
            f"Such answers have probability {shown:.3f} on the positive test prompts, {spilled:.3f} on the "
            "negative ones.",
            wanted="a model that shows the behaviour unsteered, or there is nothing to undo",
        )
    passages = own_answers(subject, neutral, progress=progress)
    damage = measure_divergence(subject, passages, scales, progress=progress)
    points = tuple(
        AuditPoint(*pair, *rate, (rate[0] - spilled) / (shown - spilled), divergence.mean)  # 4
        for pair, rate, divergence in zip(tried, rates, damage, strict=True)
    )
    sizes = len(test.positive), len(test.negative)
    return AuditReport(margin, sizes, shown, spilled, points, Circuit.of(rows, name=pairs.behaviour.name))
