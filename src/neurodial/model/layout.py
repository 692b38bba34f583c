"""Where the neurons of a model are, and where its blocks write: measured in the live model (`find_layout.py`).

Paths of a site, a write or a norm start at its block; those of blocks and of the final norm at the whole model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from neurodial.provenance import canonical_json, sha256

Part = Literal["all", "first", "second", "even", "odd"]
"""Which output features of a map feed neuron j: j itself, the first or second half, or every other one."""
NormKind = Literal["rms", "rms_plus_one", "layer", "layer_plus_one", "unknown"]
WriteKind = Literal["plain", "factor", "gated", "mixed", "streams"]
Values = Literal["apart", "last", "by_head", "unknown"]


class MapRows(NamedTuple):
    """Output features of a linear map that feed the neurons, one for each.

    Attributes:
        path: the map, in the block.
        part: which of its features.
    """

    path: str
    part: Part = "all"

    def features(self, width: int) -> slice:
        """Which output features feed the neurons 0 to width - 1, in this order.

        Example:
            >>> list(range(6))[Rows("mlp.gate_up_proj", "second").features(3)]
            [3, 4, 5]
        """
        return {
            "all": slice(0, width),
            "first": slice(0, width),
            "second": slice(width, 2 * width),
            "even": slice(0, 2 * width, 2),
            "odd": slice(1, 2 * width, 2),
        }[self.part]


class Write(NamedTuple):
    """A module whose output is added to the residual stream.

    Attributes:
        path: the module, in the block.
        kind: `plain`, added as it is; `factor`, times a constant; `gated`, by something of each token; `mixed`, it also
            reaches later tokens; `streams`, into several residual streams.
        factor: the constant; 1 where there is none.
    """

    path: str
    kind: WriteKind = "plain"
    factor: float = 1.0


class NormPart(NamedTuple):
    """A norm.

    Attributes:
        path: the module.
        kind: the formula that gives its output: `rms`, weight times the normalised input; `rms_plus_one`, one plus the
            weight; `layer` and `layer_plus_one`, the same with the mean taken away.
        epsilon: what is added to the mean square.
    """

    path: str
    kind: NormKind
    epsilon: float


@dataclass(frozen=True)
class MlpSite:
    """The neurons of one MLP: the input of its linear map back to the residual stream.

    Attributes:
        down: that map; neuron j is coordinate j of its input.
        width: number of neurons.
        up: the features that feed the neurons, those that a gate multiplies where there is a gate.
        gate: the features that go through the activation first, in a gated MLP; None in one without a gate, or where
            the gate of a neuron depends on more than one feature.
        activation: the module of the activation function, None where it is no module.
        up_rows_scale: scaling row j of `up` scales neuron j exactly.
        is_gated: whether a neuron is `act(gate) * up`.
        flattens: the MLP sees (batch * token, hidden) instead of (batch, token, hidden).
        transposed: the weight is (in, out), as in Conv1D.
        write: what carries the neurons to the residual stream.
    """

    down: str
    width: int
    up: MapRows | None
    gate: MapRows | None
    activation: str | None
    up_rows_scale: bool
    is_gated: bool
    flattens: bool
    transposed: bool
    write: Write

    @property
    def fused(self) -> bool:
        """Whether one map holds gate and up."""
        return self.gate is not None and self.up is not None and self.gate.path == self.up.path


@dataclass(frozen=True)
class RoutedSite:
    """The neurons of a block's routed experts: what is multiplied by the experts' stacked down weight.

    Attributes:
        module: the module that holds all experts; it is told which tokens go to which.
        down: its parameter, (expert, hidden, neuron), by its path in the module; in two axes the experts stand one
            below the other.
        experts: number of experts.
        width: number of neurons of one expert.
        transposed: the parameter is (expert, neuron, hidden).
        weighs_after: the routing weight multiplies what an expert writes; otherwise it is in what an expert is given,
            and so in its activations.
        write: what carries the experts' sum to the residual stream, None where it could not be told.
    """

    module: str
    down: str
    experts: int
    width: int
    transposed: bool
    weighs_after: bool
    write: Write | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(expert, neuron)."""
        return self.experts, self.width

    @property
    def is_flat(self) -> bool:
        """Whether the parameter has two axes, the experts one below the other."""
        return "." in self.down

    def weight(self, block: Any) -> Any:
        """The parameter of a block with an axis for the experts, a view."""
        weight = attrgetter(f"{self.module}.{self.down}")(block)
        return weight.unflatten(0, (self.experts, self.width)) if weight.dim() == 2 else weight


@dataclass(frozen=True)
class BlockLayout:
    """One block of the decoder.

    Attributes:
        path: the block, in the model.
        site: its dense MLP, also one that stands beside routed experts, or None where it has none.
        attention: where attention, or what stands in its place, writes; several where such parts stand side by side.
        norms: on the residual stream or on a write to it, in the order of their use.
        inner_norms: of queries and keys, or of another part of attention.
        query_key: the linear maps that give attention its queries and keys.
        values: where attention's values come from: `apart`, a map of their own; `last`, the last features of the map in
            `query_key`; `by_head`, the last third of each head's features of it.
        writes_add_up: the stream after the block is the stream before it plus the writes of attention and MLP.
        routed: modules of routed experts.
        experts: the neurons of one of them, None where they can't be read.
    """

    path: str
    site: MlpSite | None
    attention: tuple[Write, ...] = ()
    norms: tuple[NormPart, ...] = ()
    inner_norms: tuple[NormPart, ...] = ()
    query_key: tuple[str, ...] = ()
    values: Values = "unknown"
    writes_add_up: bool = False
    routed: tuple[str, ...] = ()
    experts: RoutedSite | None = None

    @property
    def unread(self) -> tuple[str, ...]:
        """Modules of routed experts whose neurons can't be read."""
        return tuple(path for path in self.routed if self.experts is None or path != self.experts.module)


@dataclass(frozen=True)
class Head:
    """From the decoder's output to logits: `cap * tanh(factor * head(x) / cap)`, without the cap where it is None.

    Attributes:
        path: the module that is given the decoder's output, in the model; None where no module with a factor and a cap
            gives the model's logits.
        factor: what its output is multiplied by.
        cap: the bound of the logits, or None.
        before: a module that is given the decoder's output first, where there are two; `path` then gets its output.
        is_map: whether it is one linear map, with nothing else in it.
    """

    path: str | None
    factor: float = 1.0
    cap: float | None = None
    before: str | None = None
    is_map: bool = True


@dataclass(frozen=True)
class Proof:
    """What was measured to prove a layout.

    Attributes:
        dtype: of the activations.
        tokens: number of tokens that the blocks were given.
        in_full: blocks that were taken apart map by map.
        by_closure: blocks of a shape seen before: their neurons equalled those bit for bit, from the same feeders and
            another input.
        replays: how often a block was run.
        stream_error: the largest difference of a block's output from its input plus its writes, relative to the
            output, where they add up.
        logits_error: the same of the logits from the head.
    """

    dtype: str
    tokens: int
    in_full: int
    by_closure: int
    replays: int
    stream_error: float
    logits_error: float


@dataclass(frozen=True)
class Layout:
    """Where a model keeps the parts that neurodial reads and writes.

    Attributes:
        label: the model type that its configuration names; only a label.
        decoder: the module that turns token ids into hidden states, in the model.
        hidden_size: width of the residual stream.
        blocks: in the order in which they run.
        final_norm: the norm after the last block, in the model.
        head: from hidden states to logits.
        has_one_stream: blocks hand on (row, token, hidden); some models hand on several streams of it.
        shares_prefixes: a cache of the beginning of several rows can be handed to all of them; models whose layers keep
            a state instead of keys and values mostly can't.
        proof: what was measured; None for a layout that was written by hand.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> layout = tiny_subject("phi3").layout
        >>> layout.blocks[0].site.up, layout.blocks[0].site.gate
        (MapRows(path='mlp.gate_up_proj', part='second'), MapRows(path='mlp.gate_up_proj', part='first'))
    """

    label: str
    decoder: str
    hidden_size: int
    blocks: tuple[BlockLayout, ...]
    final_norm: NormPart | None
    head: Head
    has_one_stream: bool = True
    shares_prefixes: bool = field(default=False, compare=False)
    proof: Proof | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over where things are: all but the label, the proof, what caches can do, and routed experts.

        Circuits of the dense MLPs of such models were made before their experts could be read; those of experts are
        told apart by the number and the width of the experts (`ModelIdentity.experts`).
        """
        value = dataclasses.asdict(self)
        for block in value["blocks"]:
            del block["experts"]
        for name in ("label", "shares_prefixes", "proof"):
            del value[name]
        return sha256(canonical_json(value))

    @property
    def sites(self) -> Iterator[tuple[int, MlpSite]]:
        """The layers that have a dense MLP, with it."""
        return ((layer, block.site) for layer, block in enumerate(self.blocks) if block.site is not None)

    @property
    def experts(self) -> Iterator[tuple[int, RoutedSite]]:
        """The layers that have routed experts whose neurons can be read, with them."""
        return ((layer, block.experts) for layer, block in enumerate(self.blocks) if block.experts is not None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)
