"""Cost: what changing a neuron does to all other answers (second step of effect and cost).

1. For each passage n (a neutral prompt and the model's own answer) and each draw, sample a label y_t from the model at
   temperature 1 at every scored prediction t; the text is not changed.
2. `G_nj = sum over all tokens s of a_j(s) * d/da_j(s) of sum_t log p(y_t)`, one backward pass for each draw.
3. `f_j = sum_n G_nj^2 / (draws * scored predictions)`: the curvature of KL per token in one neuron's dose (the labels
   are independent, so the cross terms vanish in the mean). Split-half noise comes from alternate passages.
4. For a set S of neurons, `F_S = G_S^T G_S / (draws * scored predictions)` and `KL ~ 1/2 x_S^T F_S x_S` near 0.

The decoder runs once for all draws; logits are computed for the scored predictions alone, a few hundred at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.activations.batches import Batch, batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.site import Neuron, Site, places
from neurodial.errors import OptionError, PromptError
from neurodial.kept import KeptForm, kept
from neurodial.methods.dose.effect import check_reached
from neurodial.methods.scores import Scores
from neurodial.model.gradients import backward, gradient_tokens, multiplier_slopes
from neurodial.model.head import hidden_states, label_gradients
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.render import check_context
from neurodial.provenance import sha256

_PARTS = ("both", "first", "second")
_CELLS = 512  # predictions whose distributions over the vocabulary are held at once


@dataclass(frozen=True)
class Sampling:
    """How labels are drawn.

    Attributes:
        draws: labels drawn for each prediction.
        seed: of the labels; those of a passage depend only on the seed, its number and the draw.
        budget: tokens of one micro-batch; by default as many as fit the device's memory.

    Example:
        >>> Sampling(draws=4).draws
        4
    """

    draws: int = 2
    seed: int = 0
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise OptionError(f"The number of draws is {self.draws}.", wanted="at least 1")


@dataclass(frozen=True)
class Cost:
    """The curvature of KL per token in each neuron's dose.

    Attributes:
        scores: f_j of every neuron, in nats per prediction.
        halves: the same from either half of the passages.
        tokens: number of scored predictions.
    """

    scores: Scores
    halves: tuple[Scores, Scores]
    tokens: int

    @property
    def noise(self) -> float:
        """Median over neurons of |f_1 - f_2| / (f_1 + f_2), f_1 and f_2 from the halves: 0 is none, 1 all."""
        first, second = (half.flat() for half in self.halves)
        total = first + second
        return float(((first - second).abs() / total)[total > 0].median()) if bool((total > 0).any()) else 0.0


def _packed(found: Cost) -> tuple[int, dict[str, Tensor]]:
    parts = zip(_PARTS, (found.scores, *found.halves), strict=True)
    return found.tokens, {f"{name}/{key}": tensor for name, scores in parts for key, tensor in scores.tensors().items()}


def _unpacked(tokens: int, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> Cost:
    both, first, second = (
        Scores.of_tensors(
            {key.partition("/")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")},
            arguments["subject"].device,
        )
        for name in _PARTS
    )
    return Cost(both, (first, second), tokens)


@kept("costs", KeptForm(_packed, _unpacked))
def cost(
    subject: Subject, passages: Sequence[Passage], *, sampling: Sampling | None = None, progress: Progress = silent
) -> Cost:
    """The cost of every neuron.

    Raises:
        PromptError: there are no passages.
        ContextLengthError: a passage is longer than the context.
        GradientError: the model gives no gradients.
    """
    sampling = sampling or Sampling()
    sums: dict[Site, Float[Tensor, "half *neuron"]] = {}

    def take(site: Site, slopes: Tensor, rows: Sequence[int], draw: int) -> None:
        squares = slopes.square()
        squares = squares.to(torch.float32 if squares.device.type == "mps" else torch.float64)
        half = torch.tensor([_half(row, draw, len(passages)) for row in rows], device=squares.device)
        if site not in sums:
            sums[site] = squares.new_zeros(2, *squares.shape[1:])
        sums[site].index_add_(0, half, squares)

    _label_slopes(subject, passages, sampling, take, progress)
    scored = [0, 0]
    for row, passage in enumerate(passages):
        for draw in range(sampling.draws):
            scored[_half(row, draw, len(passages))] += passage.scored
    halves = tuple(Scores({site: sums[site][half] / max(1, scored[half]) for site in subject.sites}) for half in (0, 1))
    both = Scores({site: sums[site].sum(dim=0) / sum(scored) for site in subject.sites})
    return Cost(both, (halves[0], halves[1]), sum(scored) // sampling.draws)


def quadratic_cost(
    subject: Subject,
    passages: Sequence[Passage],
    neurons: Sequence[Neuron],
    *,
    sampling: Sampling | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "chosen chosen"]:
    """The curvature F_S of KL per token in the doses of the given neurons, in their order; float64, on the CPU.

    No method chooses by it, as it earned nothing (`docs/results/behaviours.md`). It says what the costs of single
    neurons leave out, and the laws measure the divergence of small doses against it.

    Raises:
        PromptError: there are no passages.
        GradientError: the model gives no gradients.
    """
    sampling = sampling or Sampling()
    slopes = torch.zeros(sampling.draws * len(passages), len(neurons), dtype=torch.float64)
    columns: dict[Site, dict[Neuron, int]] = {}
    for column, neuron in enumerate(neurons):
        columns.setdefault(neuron.site, {})[neuron] = column

    def take(site: Site, gradients: Tensor, rows: Sequence[int], draw: int) -> None:
        if site in columns:
            cells = torch.tensor(rows) + draw * len(passages)
            index: tuple[Any, ...] = (slice(None), *places(columns[site]))
            chosen = gradients[index]
            slopes[cells[:, None], torch.tensor(list(columns[site].values()))] = chosen.cpu().double()

    _label_slopes(subject, passages, sampling, take, progress)
    return slopes.T @ slopes / (sampling.draws * sum(passage.scored for passage in passages))


_Take = Callable[[Site, Tensor, Sequence[int], int], None]
"""Gets a site, the slopes (row, neuron) of a draw, the passages of the rows, and the draw."""


def _label_slopes(
    subject: Subject, passages: Sequence[Passage], sampling: Sampling, take: _Take, progress: Progress
) -> None:
    """Steps 1 and 2: the slopes of the sampled labels' log-likelihood in every multiplier."""
    if not passages:
        raise PromptError("There are no passages to take the cost on.", wanted="at least one")
    sequences = [passage.tokens for passage in passages]
    check_context([len(sequence) for sequence in sequences], subject.context_length)
    current: list[tuple[tuple[int, ...], int]] = []
    reached: set[Site] = set()

    def slopes(site: Site, batch_slopes: Tensor) -> None:
        reached.add(site)
        take(site, batch_slopes, *current[0])

    with multiplier_slopes(subject, slopes), progress("measuring costs", len(passages)) as advance:
        for batch in batches(sequences, pad=pad_id(subject), budget=sampling.budget or gradient_tokens(subject)):
            hidden = hidden_states(subject, batch.tokens)
            row, token = _scored_places(batch, passages)
            cells = hidden[row, token]
            uniform = [_uniform(passages, batch.rows, sampling.seed, draw) for draw in range(sampling.draws)]
            gradients = _label_gradients(subject, cells.detach(), uniform)
            for draw, gradient in enumerate(gradients):
                current[:] = [(batch.rows, draw)]
                backward(subject, [cells], [gradient], keep=draw + 1 < sampling.draws)
            advance(len(batch.rows))
    check_reached(subject, reached)


def _label_gradients(
    subject: Subject, cells: Float[Tensor, "cell hidden"], uniform: Sequence[Float[Tensor, "cell"]]
) -> list[Float[Tensor, "cell hidden"]]:
    """For each draw, the gradient of the labels' log-likelihood in the decoder's outputs."""
    chunks = []
    for start in range(0, cells.shape[0], _CELLS):
        sample = partial(_labels, uniform=[numbers[start : start + _CELLS] for numbers in uniform])
        chunks.append(label_gradients(subject, cells[start : start + _CELLS], sample))
    return [torch.cat(of_draw) for of_draw in zip(*chunks, strict=True)]


def _labels(table: Float[Tensor, "cell vocab"], uniform: Sequence[Float[Tensor, "cell"]]) -> list[Int[Tensor, "cell"]]:
    """The labels at which the cumulative probabilities pass the random numbers."""
    cumulative = table.cumsum(dim=-1)
    thresholds = [numbers[:, None].to(table) * cumulative[:, -1:] for numbers in uniform]
    labels = [torch.searchsorted(cumulative, numbers, right=True)[:, 0] for numbers in thresholds]
    return [drawn.clamp(max=table.shape[1] - 1) for drawn in labels]


def _scored_places(batch: Batch, passages: Sequence[Passage]) -> tuple[Int[Tensor, "cell"], Int[Tensor, "cell"]]:
    cells = [(number, place) for number, row in enumerate(batch.rows) for place in passages[row].places]
    row, token = torch.tensor(cells).T
    return row, token


def _uniform(passages: Sequence[Passage], rows: Sequence[int], seed: int, draw: int) -> Float[Tensor, "cell"]:
    """Random numbers for the labels of some passages; independent of how passages are batched."""
    numbers = []
    for row in rows:
        generator = torch.Generator().manual_seed(int(sha256(f"{seed}/{row}/{draw}")[:15], 16))
        numbers.append(torch.rand(passages[row].scored, generator=generator, dtype=torch.float64))
    return torch.cat(numbers)


def _half(row: int, draw: int, passages: int) -> int:
    """Alternate passages; alternate draws where there is only one."""
    return row % 2 if passages > 1 else draw % 2
