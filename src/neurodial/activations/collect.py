"""One batched pass over prompts that gives the activation of every neuron, at the chosen position, to a sink.

1. The prefix that all prompts share (most of a chat template) is computed once; its cache is copied per batch.
2. What follows is batched by length, padded on the right: causal attention never looks at padding after it.
3. Hooks read only the chosen tokens; no logits are computed, nothing is kept between batches.
4. Where blocks are offloaded, batches go through the model block by block, so that each block is read from its disk
   once, not once for each batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, Batch, batches, common_prefix
from neurodial.activations.position import Position
from neurodial.circuit.site import Site
from neurodial.errors import ActivationError
from neurodial.model.block_by_block import run_passes
from neurodial.model.experts import Visits
from neurodial.model.hooks import Handle, installed, on_experts, on_neurons, watchers
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens, check_context

Sink = Callable[[Site, Float[Tensor, "row *neuron"], tuple[int, ...]], None]
"""Called once per site and batch with activations (float32 or better) and the prompts they belong to.

Those of routed experts, (row, expert, neuron), are routing weight times activation, and 0 where a token did not go to
the expert: what the neuron's column is written with.
"""


class Reader(Protocol):
    """What gives activations to a sink: `collect`, or what another engine gathered."""

    def __call__(
        self,
        subject: Subject,
        sequences: Sequence[Tokens],
        reading: Reading,
        sink: Sink,
        *,
        progress: Progress = silent,
    ) -> None:
        """Give the activations of every sequence, at the position read, to `sink`, each once."""
        ...


@dataclass(frozen=True)
class Reading:
    """How prompts are read.

    Attributes:
        position: which token.
        share_prefix: compute the common prefix once.
        budget: tokens of one batch.
    """

    position: Position
    share_prefix: bool = True
    budget: int = TOKEN_BUDGET


@torch.no_grad()
def collect(
    subject: Subject, sequences: Sequence[Tokens], reading: Reading, sink: Sink, *, progress: Progress = silent
) -> None:
    """Run every sequence through the decoder once and give the activations read to `sink`.

    Args:
        subject: the model.
        sequences: rendered prompts.
        reading: position, prefix sharing, batch size.
        sink: gets (site, activations, rows).
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        ActivationError: a prompt is too short for the position, or an activation is not finite.
    """
    places = places_read(subject, sequences, reading)
    prefix = 0
    shares = reading.share_prefix and subject.layout.shares_prefixes and not watchers(subject)  # steered: whole prompts
    if shares and len(sequences) > 1:
        prefix = min(common_prefix(sequences), *(min(place) for place in places))
    cache = _prefix_cache(subject, sequences[0][:prefix]) if prefix else None
    current: list[_Places] = []

    def give(site: Site, cells: Tensor) -> None:
        current[0].finite[site] = torch.isfinite(cells).all()
        sink(site, cells, current[0].rows)

    def reader(site: Site) -> Callable[[Tensor], None]:
        def read(neurons: Tensor) -> None:
            if current:  # empty while the prefix runs
                give(site, _read(neurons, current[0]))

        return read

    def install(handles: list[Handle]) -> None:
        for site in subject.sites:
            if site.routed:
                table = _ExpertTable(subject.shape(site), current, partial(give, site))
                handles.append(on_experts(subject, site.layer, table.read, done=table.done))
            else:
                handles.append(on_neurons(subject, site, reader(site)))

    suffixes = [sequence[prefix:] for sequence in sequences]
    whole = list(batches(suffixes, pad=pad_id(subject), budget=reading.budget))
    read = [_Places.of(batch, places, prefix, subject.device) for batch in whole]

    def turn(number: int) -> None:
        current[:] = [read[number]]

    with installed(install), progress("reading activations", len(sequences)) as advance:

        def done(number: int) -> None:
            check_finite(read[number].finite)
            advance(len(read[number].rows))

        passes = [partial(_forward, subject, batch.tokens, cache) for batch in whole]
        run_passes(subject, passes, turn, done, held=[_held(subject, batch.tokens, cache, prefix) for batch in whole])


def places_read(subject: Subject, sequences: Sequence[Tokens], reading: Reading) -> list[list[int]]:
    """Which tokens of each sequence are read. Also the check, before any work, that there are such tokens.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        ActivationError: a prompt is too short for the position.
    """
    check_context([len(sequence) for sequence in sequences], subject.context_length)
    return [reading.position.read(len(sequence)) for sequence in sequences]


def pad_id(subject: Subject) -> int:
    """The token to pad with; any token works where padding is masked or comes after the text."""
    choices = (subject.tokenizer.pad_token_id, subject.tokenizer.eos_token_id)
    rows = subject.vocabulary  # a padding token that was only added to the tokenizer has none
    return next((int(token) for token in choices if token is not None and token < rows), 0)


@dataclass(frozen=True)
class _Places:
    """Where one batch is read: `row` and `token` name the cells; and whether what was read is finite, by site."""

    rows: tuple[int, ...]
    row: Tensor
    token: Tensor
    is_single: bool
    finite: dict[Site, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, places: Sequence[Sequence[int]], prefix: int, device: torch.device) -> _Places:
        cells = [(number, place - prefix) for number, row in enumerate(batch.rows) for place in places[row]]
        row, token = torch.tensor(cells, device=device).T
        return cls(batch.rows, row, token, len(cells) == len(batch.rows))


def check_finite(finite: dict[Site, Tensor]) -> None:
    """Refuse activations that are not finite. Once for a batch, not at every layer: each check waits for the device.

    Args:
        finite: of each site, whether its activations are.

    Raises:
        ActivationError: names the first layer that gives others.
    """
    device = next(iter(finite.values())).device
    good = torch.stack([flag.to(device) for flag in finite.values()]).tolist()
    bad = [site.layer for site, is_finite in zip(finite, good, strict=True) if not is_finite]
    if bad:
        raise ActivationError(
            f"Layer {bad[0]} gives NaN or infinite activations.",
            wanted="finite numbers",
            fix="float16 overflows in many models: load with dtype bfloat16 or float32.",
        )


def _read(neurons: Tensor, places: _Places) -> Tensor:
    cells = neurons[places.row.to(neurons.device), places.token.to(neurons.device)]
    cells = cells.to(torch.promote_types(cells.dtype, torch.float32))
    if places.is_single:
        return cells
    owner = places.row.to(neurons.device)
    sums = cells.new_zeros(len(places.rows), cells.shape[-1]).index_add_(0, owner, cells)
    return sums / torch.bincount(owner, minlength=len(places.rows))[:, None]


class _ExpertTable:
    """What the tokens read gave to each expert's neurons, (row, expert, neuron), gathered over a pass."""

    def __init__(self, shape: tuple[int, ...], current: list[_Places], give: Callable[[Tensor], None]) -> None:
        self._shape, self._current, self._give = shape, current, give
        self._sums: Tensor | None = None

    def read(self, neurons: Tensor, visits: Visits) -> None:
        """Add some visits."""
        if not self._current:
            return
        places = self._current[0]
        rows, tokens = visits.shape
        row, token = (each.to(neurons.device) for each in (places.row, places.token))
        owner = torch.full((rows * tokens,), -1, device=neurons.device)
        owner[row * tokens + token] = row
        owner = owner[visits.cells]
        read = (owner >= 0).nonzero()[:, 0]
        chosen = visits.at(read)
        values = chosen.weighted(neurons[read])
        if self._sums is None:
            self._sums = values.new_zeros(len(places.rows), *self._shape)
        self._sums.index_put_((owner[read], chosen.experts), values, accumulate=True)

    def done(self) -> None:
        """Give the means over each row's tokens, also where none of them went to an expert seen here."""
        if not self._current:
            return
        places, sums = self._current[0], self._sums
        if sums is None:
            sums = torch.zeros(len(places.rows), *self._shape, device=places.row.device)
        self._sums = None
        counts = torch.bincount(places.row, minlength=len(places.rows)).to(sums.device)
        self._give(sums if places.is_single else sums / counts[:, None, None])


def _prefix_cache(subject: Subject, prefix: Tokens) -> Any:
    tokens = torch.tensor([prefix], device=subject.device)
    return subject.decoder(input_ids=tokens, use_cache=True).past_key_values


def _held(subject: Subject, tokens: Tensor, prefix_cache: Any, prefix: int) -> int:
    """Bytes that a pass holds between two blocks: the residual stream, and keys and values in all blocks."""
    rows, width = tokens.shape
    stream = rows * width * subject.hidden_size * subject.dtype.itemsize
    layers = getattr(prefix_cache, "layers", ())
    tensors = [one for layer in layers for one in vars(layer).values() if isinstance(one, Tensor)]
    per_token = sum(one.numel() * one.element_size() for one in tensors) / max(1, prefix)
    return stream + round(rows * (prefix + width) * per_token)


def _forward(subject: Subject, tokens: Tensor, prefix_cache: Any) -> None:
    if prefix_cache is None:
        subject.decoder(input_ids=tokens.to(subject.device), use_cache=False)
        return
    cache = copy.deepcopy(prefix_cache)
    cache.batch_repeat_interleave(tokens.shape[0])
    subject.decoder(input_ids=tokens.to(subject.device), past_key_values=cache, use_cache=True)
