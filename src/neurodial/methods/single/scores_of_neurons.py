"""Candidates for the one neuron that holds a behaviour up (arXiv 2605.08513).

1. `B(x)`: the log odds that the answer begins as the behaviour's answers begin; the paper's loss is `L = -B`.
2. At each of the tokens that the chat template puts after the instruction: mean activations `a_H` over P+ and `a_h`
   over P-, mean signed gradients `g_H` and `g_h` of the loss.
3. Score `(g_H + g_h) * (a_h - a_H)`: what moving a neuron from its P+ mean to its P- mean takes from the behaviour,
   to first order. Maximum over those tokens.
4. Only neurons with `|a_H| > |a_h|` at that token, of the first two thirds of the layers.

Without a chat template the last token alone is read. Neurons of dense and shared MLPs only: those of routed experts
have no mean activation that a pin could hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.collect import pad_id
from neurodial.activations.groups import GroupBatch, group_batches
from neurodial.circuit.site import Neuron
from neurodial.errors import ActivationError, ModelError, OptionError
from neurodial.margins.margin import Margin
from neurodial.model.gradients import Tape, frozen, gradient_tokens, gradients
from neurodial.model.head import hidden_states
from neurodial.model.hooks import installed
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import Tokens, check_context


@dataclass(frozen=True)
class CandidateSearch:
    """Which neurons may be candidates.

    Attributes:
        layers: the share of the layers that is searched, from the first.
        count: how many candidates, the best by score.
        budget: tokens of one micro-batch; by default what the device has room for.

    Example:
        >>> CandidateSearch().count
        5
    """

    layers: float = 2 / 3
    count: int = 5
    budget: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.layers <= 1 or self.count < 1 or (self.budget is not None and self.budget < 1):
            raise OptionError(
                f"layers {self.layers}, count {self.count}, budget {self.budget}.",
                wanted="a share of the layers above 0 and at most 1, and at least 1 of the others",
            )


@dataclass(frozen=True)
class CandidateNeuron:
    """A neuron that may hold a behaviour up.

    Attributes:
        neuron: which.
        score: to first order, the log odds that leave when it moves from its P+ mean to its P- mean, both sides'
            slopes together.
        token: where that was read, from the prompt's end: -1 is the last token.
        positive: its mean activation over P+ there.
        negative: over P-.
    """

    neuron: Neuron
    score: float
    token: int
    positive: float
    negative: float

    @property
    def gap(self) -> float:
        """How far the sides' means lie apart."""
        return self.positive - self.negative


def candidates(
    subject: Subject,
    margin: Margin,
    contrast: Contrast,
    *,
    search: CandidateSearch | None = None,
    system: str | None = None,
    progress: Progress = silent,
) -> list[CandidateNeuron]:
    """The best candidates, best first.

    Args:
        subject: the model.
        margin: of the behaviour.
        contrast: P+ and P-.
        search: which neurons may be candidates.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        GradientError: the model gives no gradients.
        ActivationError: no neuron is more active on P+ than on P-.
        ModelError: all neurons are in routed experts.

    Example:
        >>> from neurodial.margins.margin import Openers
        >>> from neurodial.model.tiny import tiny_subject
        >>> contrast = Contrast.of(["harm one", "harm two"], ["help one", "help two"])
        >>> len(candidates(tiny_subject(), Openers.of([(40,)]), contrast))
        5
    """
    if not subject.dense_sites:
        raise ModelError(
            f"All neurons of {subject.label} are in routed experts.",
            wanted="a model with dense or shared MLPs for methods that look for one neuron",
            fix="Methods cna and dose find neurons in routed experts.",
        )
    chosen = search or CandidateSearch()
    width = subject.post_instruction_length if subject.has_chat else 1
    budget = chosen.budget or gradient_tokens(subject)
    sides = []
    for examples in (contrast.positive, contrast.negative):
        prompts = subject.render([example.prompt for example in examples], system=system)
        sides.append(_side(subject, margin, list(zip(prompts, examples, strict=True)), (width, budget), progress))
    neurons: list[CandidateNeuron] = []
    early = math.ceil(chosen.layers * subject.layers)
    for layer, place_of_site in [
        (site.layer, place) for place, site in enumerate(subject.dense_sites) if site.layer < early
    ]:
        (active, slope), (other, other_slope) = (side[place_of_site] for side in sides)
        scores = (slope + other_slope) * (active - other)  # slopes of B, the loss with its sign turned: (3)
        scores = torch.where(active.abs() > other.abs(), scores, -torch.inf)  # 4
        best, token = scores.max(dim=0)
        for index in best.topk(min(chosen.count, len(best))).indices.tolist():
            place = int(token[index])
            if math.isfinite(float(best[index])):
                means = float(active[place, index]), float(other[place, index])
                neurons.append(CandidateNeuron(Neuron(layer, None, index), float(best[index]), place - width, *means))
    if not neurons:
        raise ActivationError(
            "No neuron is more active on the positive prompts than on the negative ones.",
            wanted="prompts that the model answers differently",
        )
    neurons.sort(key=lambda candidate: (-candidate.score, candidate.neuron.layer, candidate.neuron.index))
    return neurons[: chosen.count]


Means = tuple[Float[Tensor, "token neuron"], Float[Tensor, "token neuron"]]


def _side(
    subject: Subject,
    margin: Margin,
    rendered: Sequence[tuple[Tokens, Example]],
    sizes: tuple[int, int],
    progress: Progress,
) -> list[Means]:
    """Mean activations and mean slopes of each site at the tokens after the instruction (2)."""
    width, budget = sizes
    prompts = [prompt for prompt, _ in rendered]
    groups = [margin.rows(subject, *pair) for pair in rendered]
    check_context([len(row) for group in groups for row in group], subject.context_length)
    sums = [torch.zeros(2, width, *subject.shape(site), dtype=torch.float64) for site in subject.dense_sites]
    tape = Tape()
    with (
        frozen(subject),
        installed(lambda handles: tape.install(subject, handles)),
        progress("reading slopes", len(groups)) as advance,
    ):
        for batch in group_batches(groups, pad=pad_id(subject), budget=budget):
            value = _value(subject, margin, batch, groups, prompts)
            slopes = gradients(subject, value, tape.neurons)
            for place, number in enumerate(batch.groups):
                rows, end = list(batch.rows_of(place)), len(prompts[number])
                after = slice(end - width, end)
                for site, slope in enumerate(slopes):
                    sums[site][0] += tape.neurons[site][rows[0], after].detach().cpu().double()
                    sums[site][1] += slope[rows, after].sum(dim=0).cpu().double()
            advance(len(batch.groups))
    return [(total[0] / len(rendered), total[1] / len(rendered)) for total in sums]


def _value(
    subject: Subject,
    margin: Margin,
    batch: GroupBatch,
    groups: Sequence[tuple[Tokens, ...]],
    prompts: Sequence[Tokens],
) -> Tensor:
    hidden = hidden_states(subject, batch.tokens)
    values = []
    for place, number in enumerate(batch.groups):
        states = [hidden[row, : batch.lengths[row]] for row in batch.rows_of(place)]
        values.append(margin.value(subject, groups[number], states, len(prompts[number])))
    return torch.stack(values).sum()
