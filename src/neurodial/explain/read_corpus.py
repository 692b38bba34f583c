"""One pass over a corpus, in batches, that watches a circuit's neurons; memory does not grow with the corpus.

1. The circuit's direction first, from a tenth of the texts: the sum of what its neurons write, each at the difference
   of its means on both sides (its mean, without sides), times its dose. Dial 1 takes that out.
2. All texts in batches. At every token: each neuron's activation, and the circuit's drive, the length along that
   direction of all that dial 1 takes out there.
3. Kept: means and covariances of the circuit's neurons, their covariances with all neurons of their layer, histograms
   at the last token, and places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import ActivationError
from neurodial.explain.corpus import SIDES, Corpus
from neurodial.explain.histograms import Histograms
from neurodial.explain.places import KeptPlaces
from neurodial.model.experts import Visits
from neurodial.model.hooks import Handle, installed, on_experts, on_neurons
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens

SAMPLE = 256
"""Places in the fair sample."""
_SHARE = 10
"""One in so many texts is read twice."""


@dataclass(frozen=True, eq=False)
class Watched:
    """Which neurons are watched, and how they add up to the circuit.

    Attributes:
        rows: the circuit's rows, in its order: the channels; one more is the circuit's drive.
        shown: the channels that get a part of their own.
        drive: what a unit of each neuron's activation adds to the drive.
        direction: the circuit's direction, of length 1.
    """

    rows: tuple[Row, ...]
    shown: tuple[int, ...]
    drive: Float[Tensor, "neuron"]
    direction: Float[Tensor, "hidden"]

    @property
    def channels(self) -> tuple[int, ...]:
        """The shown channels, and last that of the drive."""
        return (*self.shown, len(self.rows))

    @property
    def sites(self) -> dict[Site, list[int]]:
        """The channels of each site."""
        grouped: dict[Site, list[int]] = {}
        for channel, row in enumerate(self.rows):
            grouped.setdefault(row.neuron.site, []).append(channel)
        return grouped


@dataclass(eq=False)
class LayerSums:
    """Sums over all tokens of one site's neurons, and of their products with the shown channels there.

    Neurons of routed experts stand flat, one expert after the other; each counts as its column is written with.
    """

    layer: int
    shape: tuple[int, ...]
    channels: list[int]
    total: Float64[Tensor, "width"]
    squares: Float64[Tensor, "width"]
    products: Float64[Tensor, "channel width"]

    def neuron(self, place: int) -> Neuron:
        """The neuron at a place."""
        expert, index = divmod(place, self.shape[-1])
        return Neuron(self.layer, expert if len(self.shape) > 1 else None, index)

    def add(self, neurons: Float[Tensor, "token width"], shown: Float[Tensor, "token channel"], first: int = 0) -> None:
        """Add tokens of some neurons that stand side by side from place `first` on, and of the shown channels."""
        part = slice(first, first + neurons.shape[1])
        self.total[part] += neurons.sum(dim=0).double().cpu()  # of one batch in float32, over batches in float64
        self.squares[part] += torch.linalg.vector_norm(neurons, dim=0).double().square().cpu()
        self.products[:, part] += (shown.T @ neurons).double().cpu()


@dataclass(eq=False)
class CorpusReading:
    """What one pass over a corpus found.

    Attributes:
        watched: which neurons.
        tokens: how many tokens were read.
        total: sums of the circuit's neurons over all tokens.
        products: sums of their products.
        layers: sums of whole layers that have shown neurons.
        histograms: of the shown channels at the last token, by side.
        places: of the shown channels.
        passes: tokens that went through the model, over tokens of the corpus.
    """

    watched: Watched
    tokens: int
    total: Float64[Tensor, "neuron"]
    products: Float64[Tensor, "neuron neuron"]
    layers: dict[Site, LayerSums]
    histograms: Histograms
    places: KeptPlaces
    passes: float = 0.0

    @property
    def correlation(self) -> Float64[Tensor, "neuron neuron"]:
        """Correlations of the circuit's neurons over all tokens; 0 where one does not vary."""
        mean = self.total / self.tokens
        covariance = self.products / self.tokens - torch.outer(mean, mean)
        deviation = covariance.diagonal().clamp(min=0).sqrt()
        scale = torch.outer(deviation, deviation)
        return torch.where(scale > 0, covariance / scale, 0.0).clamp(-1, 1)

    def in_layer(self, channel: int) -> Float64[Tensor, "width"]:
        """Correlations of a shown neuron with every neuron of its site."""
        neuron = self.watched.rows[channel].neuron
        sums = self.layers[neuron.site]
        place = neuron.number(sums.shape)
        mean = sums.total / self.tokens
        deviation = (sums.squares / self.tokens - mean.square()).clamp(min=0).sqrt()
        covariance = sums.products[sums.channels.index(channel)] / self.tokens - mean * mean[place]
        scale = deviation * deviation[place]
        return torch.where(scale > 0, covariance / scale, 0.0).clamp(-1, 1)


@torch.no_grad()
def read_corpus(
    subject: Subject,
    circuit: Circuit,
    corpus: Corpus,
    *,
    shown: int,
    places: int,
    seed: int = 0,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> CorpusReading:
    """Watch a circuit over a corpus.

    Args:
        subject: the model.
        circuit: whose neurons are watched.
        corpus: the texts.
        shown: how many neurons get a part of their own, those of largest absolute score; 0 for all.
        places: strongest and weakest places kept for each.
        seed: of the sample of places.
        budget: tokens of one batch.
        progress: shown while it runs.

    Raises:
        ActivationError: an activation is not finite.
    """
    watched, read_before = _watched(subject, circuit, corpus, shown, budget)
    channels = len(watched.channels)
    generator = torch.Generator().manual_seed(seed)
    reading = CorpusReading(
        watched=watched,
        tokens=0,
        total=torch.zeros(len(circuit), dtype=torch.float64),
        products=torch.zeros(len(circuit), len(circuit), dtype=torch.float64),
        layers=_layer_sums(subject, watched),
        histograms=Histograms.empty(channels, len(SIDES)),
        places=KeptPlaces(places, SAMPLE, generator),
    )
    sides = torch.tensor([SIDES.index(text.side) for text in corpus.texts])
    with progress("watching the circuit", len(corpus)) as advance:
        passes = activations(subject, watched, [text.tokens for text in corpus.texts], reading.layers, budget=budget)
        for rows, lengths, values in passes:
            _take(reading, corpus, rows, lengths, values, sides)
            advance(len(rows))
    reading.passes = 1 + read_before / corpus.tokens
    return reading


def _take(
    reading: CorpusReading,
    corpus: Corpus,
    rows: tuple[int, ...],
    lengths: tuple[int, ...],
    values: Float[Tensor, "row token neuron"],
    sides: Tensor,
) -> None:
    watched = reading.watched
    valid = torch.cat([values[place, :length] for place, length in enumerate(lengths)]).double()
    reading.tokens += valid.shape[0]
    reading.total += valid.sum(dim=0)
    reading.products += valid.T @ valid
    channels = torch.cat([values[..., list(watched.shown)], (values @ watched.drive)[..., None]], dim=-1)
    last = torch.stack([channels[place, length - 1] for place, length in enumerate(lengths)])
    reading.histograms.add(last, sides[list(rows)])
    for place, number in enumerate(rows):
        text = corpus.texts[number]
        reading.places.add(number, channels[place, : lengths[place]], text.first, lengths[place])


def activations(
    subject: Subject,
    watched: Watched,
    sequences: Sequence[Tokens],
    layers: dict[Site, LayerSums] | None = None,
    *,
    budget: int = TOKEN_BUDGET,
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], Float[Tensor, "row token neuron"]]]:
    """The watched neurons at every token, batch by batch: rows, their lengths, and the activations in float32.

    Args:
        subject: the model.
        watched: which neurons.
        sequences: token ids.
        layers: sums of whole layers to add to.
        budget: tokens of one batch.

    Raises:
        ActivationError: an activation is not finite.
    """
    sites = watched.sites
    parts: dict[Site, Tensor] = {}
    mask: list[Tensor] = []

    def reader(site: Site) -> Callable[[Tensor], Tensor | None]:
        indices = [watched.rows[channel].neuron.index for channel in sites[site]]

        def read(neurons: Tensor) -> None:
            chosen = neurons[:, :, indices].to(torch.float32)
            parts[site] = chosen.cpu()
            if layers is not None and site in layers:
                real = mask[0].to(neurons.device)
                shown = [sites[site].index(channel) for channel in layers[site].channels]
                layers[site].add(neurons[real].float(), chosen[real][:, shown])

        return cast(Callable[[Tensor], Tensor | None], read)

    def install(handles: list[Handle]) -> None:
        for site in sites:
            if site.routed:
                table = _Visited(watched, site, mask, parts, None if layers is None else layers.get(site))
                handles.append(on_experts(subject, site.layer, table.read, done=table.done))
            else:
                handles.append(on_neurons(subject, site, reader(site)))

    order = [channel for channels in sites.values() for channel in channels]
    for batch in batches(sequences, pad=pad_id(subject), budget=budget):
        lengths = torch.tensor(batch.lengths)
        mask[:] = [torch.arange(batch.tokens.shape[1])[None] < lengths[:, None]]
        with installed(install):
            subject.decoder(input_ids=batch.tokens.to(subject.device), use_cache=False)
        together = torch.cat([parts[site] for site in sites], dim=-1)
        values = torch.empty_like(together)
        values[..., order] = together
        if not bool(torch.isfinite(values[mask[0]]).all()):
            raise ActivationError(
                "The circuit's neurons have NaN or infinite activations.",
                wanted="finite numbers",
                fix="float16 overflows in many models: load with dtype bfloat16 or float32.",
            )
        yield batch.rows, batch.lengths, values


class _Visited:
    """Gathers the watched neurons of a layer's routed experts over a pass: routing weight times activation, else 0."""

    def __init__(
        self, watched: Watched, site: Site, mask: list[Tensor], parts: dict[Site, Tensor], sums: LayerSums | None
    ) -> None:
        self._channels = watched.sites[site]
        self._neurons = [watched.rows[channel].neuron for channel in self._channels]
        self._site, self._mask, self._parts, self._sums = site, mask, parts, sums
        self._pieces: list[tuple[Tensor, Visits]] = []

    def read(self, neurons: Tensor, visits: Visits) -> None:
        """Keep some visits until the pass of the experts is over."""
        self._pieces.append((visits.weighted(neurons), visits))

    def done(self) -> None:
        """Spread the visits over the tokens, and add them to the sums."""
        rows, tokens = self._mask[0].shape
        values = torch.zeros(rows * tokens, len(self._neurons))
        experts = torch.tensor([neuron.expert for neuron in self._neurons])
        indices = [neuron.index for neuron in self._neurons]
        for weighted, visits in self._pieces:
            is_own = visits.experts[:, None].cpu() == experts
            values.index_add_(0, visits.cells.cpu(), weighted[:, indices].float().cpu() * is_own)
        self._parts[self._site] = values.reshape(rows, tokens, -1)
        if self._sums is not None:
            self._add(values[:, [self._channels.index(channel) for channel in self._sums.channels]], self._sums)
        self._pieces.clear()

    def _add(self, shown: Float[Tensor, "cell channel"], sums: LayerSums) -> None:
        for weighted, visits in self._pieces:
            is_real = self._mask[0].reshape(-1).to(weighted.device)[visits.cells]
            for expert in visits.experts[is_real].unique().tolist():
                mine = is_real & (visits.experts == expert)
                tokens = shown.to(weighted.device)[visits.cells[mine]]
                sums.add(weighted[mine].float(), tokens, first=expert * sums.shape[-1])


def _layer_sums(subject: Subject, watched: Watched) -> dict[Site, LayerSums]:
    layers = {}
    for site, channels in watched.sites.items():
        kept = [channel for channel in channels if channel in watched.shown]
        if kept:
            shape = subject.shape(site)
            sums = [torch.zeros(*axes, math.prod(shape), dtype=torch.float64) for axes in ((), (), (len(kept),))]
            layers[site] = LayerSums(site.layer, shape, kept, sums[0], sums[1], sums[2])
    return layers


def _watched(subject: Subject, circuit: Circuit, corpus: Corpus, shown: int, budget: int) -> tuple[Watched, int]:
    """What is watched, and how many tokens were read to find the circuit's direction."""
    ranked = sorted(range(len(circuit)), key=lambda channel: -abs(circuit.rows[channel].score))
    chosen = tuple(sorted(ranked[: shown or len(circuit)], key=ranked.index))
    numbers = {site: [row.neuron.number(subject.shape(site)) for row in rows] for site, rows in circuit.sites.items()}
    columns = torch.cat([subject.down_columns(site, places) for site, places in numbers.items()], dim=1)
    doses = torch.tensor([row.dose for row in circuit])
    bare = Watched(circuit.rows, chosen, torch.zeros(len(circuit)), torch.zeros(columns.shape[0]))
    sample = _sample(corpus)
    sums = torch.zeros(len(SIDES), len(circuit), dtype=torch.float64)
    counts = torch.zeros(len(SIDES), dtype=torch.float64)
    tokens = [corpus.texts[number].tokens for number in sample]
    for rows, lengths, values in activations(subject, bare, tokens, budget=budget):
        for place, (number, length) in enumerate(zip(rows, lengths, strict=True)):
            side = SIDES.index(corpus.texts[sample[number]].side)
            sums[side] += values[place, length - 1].double()
            counts[side] += 1
    means = sums / counts.clamp(min=1)[:, None]
    typical = means[0] - means[1] if bool((counts[:2] > 0).all()) else sums.sum(dim=0) / counts.sum()
    direction = columns @ (doses * typical.float())
    direction = direction / direction.norm().clamp(min=1e-30)
    drive = doses * (direction @ columns)
    return Watched(circuit.rows, chosen, drive, direction), sum(map(len, tokens))


def _sample(corpus: Corpus) -> list[int]:
    """A tenth of the texts of each side, at least one, evenly spread."""
    chosen = []
    for side in SIDES:
        of_side = [number for number, text in enumerate(corpus.texts) if text.side == side]
        chosen += of_side[::_SHARE]
    return sorted(chosen)
