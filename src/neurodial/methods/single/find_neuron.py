"""The one neuron: candidates steered for real, by pinning (arXiv 2605.08513).

1. Openers of one token, found in the model's own answers to the discovery prompts; candidates from slopes and
   activations (`scores_of_neurons.py`). Or instead the first tokens of answers without the behaviour, which nonsense
   does not raise (`margins/margin.py`).
2. Each candidate is pinned, at every token, to values from zero on against the sign of its mean on P+:
   `-sign(a_H) * s * |a_H|` for each step s.
   Or to a value that follows the context, with that as its limit (`intervention/anchor.py`).
3. Candidates are ranked by what is left on the development prompts: the mean probability on P+ that an answer begins
   with an opener (or with no opening of the other side). Ties go to the smaller push.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.intervention.anchor import Anchor, anchored
from neurodial.intervention.scale import Pin
from neurodial.margins.beginnings import OpenerSearch
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.margin import Alternatives, Margin, Openers
from neurodial.margins.measure import probabilities_by_side
from neurodial.margins.openers import OpeningMargin, refuse_unknown
from neurodial.methods.apart import check_apart
from neurodial.methods.single.scores_of_neurons import CandidateNeuron, CandidateSearch, candidates
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet

PinKind = Literal["constant", "anchored"]


@dataclass(frozen=True)
class SingleNeuron:
    """How one neuron is looked for.

    Attributes:
        candidates: which neurons may be candidates.
        openers: how openers are found; the paper reads the first token.
        margin: what is taken away. `openers`: answers that begin as the behaviour's do (the paper); `alternatives`:
            answers that do not begin as those without the behaviour do, at most as many tokens as openers have.
        steps: pinned values, as multiples of the neuron's mean on P+ with the sign turned.
        pin: `constant`, or `anchored`, which follows the context and leaves step 0 out.
        strength: `k` of the anchor.

    Raises:
        OptionError: no steps, or one that is negative or not finite; an anchor with steps of 0 alone, or with
            openers of several tokens.

    Example:
        >>> SingleNeuron(steps=(0.0, 2.0)).candidates.count
        5
    """

    candidates: CandidateSearch = field(default_factory=CandidateSearch)
    openers: OpenerSearch = field(default_factory=lambda: OpenerSearch(length=1))
    steps: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    pin: PinKind = "constant"
    strength: float = 1.0
    margin: OpeningMargin = "openers"

    def __post_init__(self) -> None:
        refuse_unknown(self.margin)
        if self.pin not in get_args(PinKind):
            raise UnknownNameError(f"The pin is {self.pin!r}.", fix=near_names(self.pin, get_args(PinKind)))
        if self.pin == "anchored" and not any(self.steps):
            raise OptionError(f"The steps are {self.steps}.", wanted="a step above 0: an anchor needs a direction")
        if self.pin == "anchored" and self.openers.length > 1:
            raise OptionError(
                f"The openers may have {self.openers.length} tokens.",
                wanted="openers of one token with anchored pins, which read the prompt's last tokens",
            )
        if not self.steps or not all(0 <= step < math.inf for step in self.steps):
            raise OptionError(f"The steps are {self.steps}.", wanted="at least one; numbers from 0 on")


@dataclass(frozen=True)
class Pinned:
    """A candidate at one value.

    Attributes:
        candidate: the neuron, and how it was found.
        value: what it is pinned to; for an anchor, its limit.
        positive: mean probability, on P+ of the split measured, that an answer begins as the margin says.
        negative: the same on P-.
        anchor: the anchor, to use with `anchored`; None where the value is constant.
    """

    candidate: CandidateNeuron
    value: float
    positive: float
    negative: float
    anchor: Anchor | None = None

    @property
    def pin(self) -> Pin:
        """The constant pin at this value, to steer with."""
        return Pin({self.candidate.neuron: self.value})


@dataclass(frozen=True)
class NeuronSweep:
    """What the search for one neuron gave.

    Attributes:
        margin: how the behaviour's answers begin, or those without it.
        before: mean probability, on P+ and on P- of the development split, that an answer begins as the margin says,
            unsteered.
        sweep: every candidate at every value, the best first.
    """

    margin: Alternatives | Openers
    before: tuple[float, float]
    sweep: tuple[Pinned, ...]

    @property
    def best(self) -> Pinned:
        """The neuron and the value that leave least of the behaviour."""
        return self.sweep[0]


def single_neuron(
    subject: Subject, pairs: PairSet, *, method: SingleNeuron | None = None, progress: Progress = silent
) -> NeuronSweep:
    """Find the one neuron whose pinning removes most of a behaviour.

    Args:
        subject: the model.
        pairs: the behaviour; candidates come from its discovery split, the ranking from its development split.
        method: how, with every option.
        progress: shown while it runs.

    Raises:
        MarginError: no beginning of an answer tells the sides apart.
        PromptError: a split is missing, or its sides are rendered alike.
        ContextLengthError: a prompt is longer than the context.
        GradientError: the model gives no gradients.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.margins.beginnings import OpenerSearch
        >>> from neurodial.model.tiny import tiny_subject
        >>> pairs = nd.PairSet.of([f"harm {n}" for n in range(10)], [f"help {n}" for n in range(10)])
        >>> search = OpenerSearch(length=1, rarity=0.99, share=0.0, coverage=0.0)
        >>> method = nd.SingleNeuron(openers=search, steps=(0.0,))
        >>> outcome = nd.single_neuron(tiny_subject(), pairs, method=method)
        >>> len(outcome.sweep)
        5
    """
    chosen = method or SingleNeuron()
    contrast, development = pairs.discovery, pairs.development
    for side in (contrast, development):
        check_apart(subject, side)
    margin = choose_margin(
        subject, pairs, kind=chosen.margin, splits=(), openers=chosen.openers, progress=progress
    ).openings  # 1
    neurons = candidates(subject, margin, contrast, search=chosen.candidates, progress=progress)
    return sweep(subject, margin, neurons, development, method=chosen, progress=progress)


def sweep(
    subject: Subject,
    margin: Alternatives | Openers,
    neurons: list[CandidateNeuron],
    contrast: Contrast,
    *,
    method: SingleNeuron | None = None,
    progress: Progress = silent,
) -> NeuronSweep:
    """Pin every candidate to every value and measure what is left, best first (2, 3)."""
    chosen = method or SingleNeuron()
    steps = sorted({step for step in chosen.steps if step or chosen.pin == "constant"})
    values = [(candidate, pinned_value(candidate, step)) for candidate in neurons for step in steps]
    if chosen.pin == "constant":
        pins = [Pin({candidate.neuron: value}) for candidate, value in values]
        before, *means = probabilities_by_side(subject, margin, contrast, [None, *pins], progress=progress)
        rows = [Pinned(*pair, *mean) for pair, mean in zip(values, means, strict=True)]
    else:
        [before] = probabilities_by_side(subject, margin, contrast, [None], progress=progress)
        rows = _anchored(subject, margin, values, contrast, chosen.strength)
    ranked = sorted(rows, key=lambda row: (row.positive, abs(row.value), row.candidate.neuron))
    return NeuronSweep(margin, before, tuple(ranked))


def _anchored(
    subject: Subject, margin: Margin, values: list[tuple[CandidateNeuron, float]], contrast: Contrast, strength: float
) -> list[Pinned]:
    width = subject.post_instruction_length if subject.has_chat else 1
    rows = []
    for candidate, value in values:
        anchor = Anchor(candidate.neuron, value, candidate.gap, width, strength)
        with anchored(subject, anchor):
            # A budget of one token: each prompt passes by itself, without padding that the anchor would read.
            [means] = probabilities_by_side(subject, margin, contrast, [None], budget=1)
        rows.append(Pinned(candidate, value, *means, anchor))
    return rows


def pinned_value(candidate: CandidateNeuron, step: float) -> float:
    """Zero at step 0, then against the sign of the mean on P+.

    Example:
        >>> pinned_value(CandidateNeuron(Neuron(0, None, 1), 1.0, -1, positive=2.0, negative=0.5), 4.0)
        -8.0
    """
    return -step * candidate.positive + 0.0
