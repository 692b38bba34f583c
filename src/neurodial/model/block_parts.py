"""The other parts of a replayed block: where it writes, its activation, its norms, queries and keys, and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neurodial.model.layout import MapRows, NormKind, NormPart, Values, Write
from neurodial.model.mlp_sites import Examined, pushed, reach_of
from neurodial.model.plain_weight import stored_weight
from neurodial.model.replay import CELLS, by_cell, same


class Writes(NamedTuple):
    """What a block adds to the residual stream.

    Attributes:
        attention: of every part that other tokens reach.
        mlp: of the MLP, None where there is none.
        error: the largest difference of the block's output from its input plus these, relative to the output.
        carriers: modules that carry one of them.
    """

    attention: tuple[Write, ...]
    mlp: Write | None
    error: float
    carriers: frozenset[str]

    def add_up(self, dtype: torch.dtype) -> bool:
        """Whether the stream after the block is the stream before it plus these, up to rounding."""
        return self.error <= 8 * torch.finfo(dtype).eps


def find_writes(examined: Examined, mlp: str | None) -> Writes:
    """The first modules after attention and MLP whose output is added as it is, so that all of them add up.

    Args:
        examined: the block.
        mlp: the down map of its dense MLP or, where it has none, its experts module.
    """
    carriers: set[str] = set()
    attention = tuple(
        next(_writes(examined, path, carriers))
        for path in examined.attention
        if examined.reaches[path].kind not in {"mixed", "streams"}
    )
    choices = [None] if mlp is None else list(_writes(examined, mlp, carriers))
    best: tuple[float, Write | None] | None = None
    for write in choices:
        error = stream_error(examined.base.result, examined, (*attention, *([] if write is None else [write])))
        if best is None or error < best[0] / 4:
            best = (error, write)
    assert best is not None  # noqa: S101  # there is a choice at least
    return Writes(attention, best[1], best[0], frozenset(carriers))


def _writes(examined: Examined, path: str, carriers: set[str]) -> Iterator[Write]:
    """The map itself where its output is added as it is, then each module that carries it and is; at last any way."""
    reach, width = examined.reaches[path], examined.hidden
    moved = examined.replay.run(frozen=examined.frozen, edits={path: pushed(width)}, watched=True)
    carrying = [
        part
        for part, (_, value) in moved.parts.items()
        if part in examined.base.parts
        and value.shape[-1] == width
        and value.numel() == examined.base.result.numel()
        and not same(value, examined.base.parts[part][1])
    ]
    carriers.update(carrying)
    found = False
    if reach.kind == "plain":
        found = True
        yield Write(path)
    for part in carrying:
        through = reach_of(examined, part, examined.base.parts[part][1])
        if through is not None and through.kind == "plain":
            found = True
            yield Write(part)
    if not found:
        kind = "gated" if reach.kind == "bent" else reach.kind
        yield Write(path, kind, reach.factor)


def stream_error(result: Tensor, examined: Examined, writes: Sequence[Write]) -> float:
    """How far a block's output in the base run is from its input plus the writes, relative to its largest number."""
    stream = torch.randn(examined.replay.block.stream.shape, generator=torch.Generator().manual_seed(0))
    if stream.numel() != result.numel() or any(write.kind not in {"plain", "factor"} for write in writes):
        return float("inf")
    total = by_cell(stream.to(result)).double()
    for write in writes:
        value = examined.base.parts[write.path][1] if write.path in examined.base.parts else None
        value = examined.base.outputs[write.path][0] if value is None else value
        total = total + write.factor * by_cell(value).double()
    difference = (by_cell(result).double() - total).abs().max()
    return float(difference / result.abs().max().double().clamp(min=1e-30))


def find_activation(examined: Examined, rows: MapRows | None) -> str | None:
    """The module that is given these features, untouched."""
    if rows is None:
        return None
    given = _part_of(by_cell(examined.base.outputs[rows.path][0]), rows.part)
    modules = dict(examined.replay.block.module.named_modules())
    for path, (seen, _) in examined.base.parts.items():
        fits = seen.numel() == given.numel() and not any(modules[path].children())
        if fits and same(seen.reshape(CELLS, -1), given):
            return path
    return None


def _part_of(values: Tensor, part: str) -> Tensor:
    half = values.shape[1] // 2
    return {
        "all": values,
        "first": values[:, :half],
        "second": values[:, half:],
        "even": values[:, ::2],
        "odd": values[:, 1::2],
    }[part]


def find_norms(examined: Examined, carriers: frozenset[str]) -> tuple[tuple[NormPart, ...], tuple[NormPart, ...]]:
    """Norms on the residual stream or a write, and norms inside attention."""
    other = examined.replay.run(frozen=examined.frozen, seed=4, watched=True)
    modules = dict(examined.replay.block.module.named_modules())
    norms: list[NormPart] = []
    inner: list[NormPart] = []
    for path, (given, value) in examined.base.parts.items():
        norm = norm_part(path, modules[path], given, value)
        if norm is None or path not in other.parts:
            continue
        reads_stream = not same(given, other.parts[path][0])
        (norms if reads_stream or path in carriers else inner).append(norm)
    return tuple(norms), tuple(inner)


def norm_part(path: str, module: nn.Module, given: Tensor, value: Tensor) -> NormPart | None:
    """The norm that a module is, by the formula that gives its output; None where it is no norm."""
    if any(module.children()) or given.shape != value.shape or not given.is_floating_point():
        return None
    weight, bias = (_vector(module, name, given.shape[-1]) for name in ("weight", "bias"))
    wide = given.double()
    for epsilon in _epsilons(module, given):
        for kind, gain, centred in _formulas(weight):
            scaled = wide - wide.mean(dim=-1, keepdim=True) if centred else wide
            scaled = scaled * (scaled.square().mean(dim=-1, keepdim=True) + epsilon).rsqrt()
            scaled = scaled if gain is None else scaled * gain
            scaled = scaled if bias is None else scaled + bias
            precision = max(torch.finfo(value.dtype).eps, torch.finfo(torch.float32).eps)  # float64 norms take float32
            bound = 8 * precision * float(scaled.abs().max())
            if float((scaled - value.double()).abs().max()) <= bound:
                return NormPart(path, kind, epsilon)
    return NormPart(path, "unknown", 0.0) if "norm" in type(module).__name__.lower() else None


def _vector(module: nn.Module, name: str, size: int) -> Tensor | None:
    value = stored_weight(module, name)
    is_vector = value is not None and value.dim() == 1 and value.shape[0] == size and not value.is_meta
    return value.detach().double() if is_vector else None  # type: ignore[union-attr]  # it is a tensor


def _epsilons(module: nn.Module, given: Tensor) -> list[float]:
    named = [
        float(value) for name, value in vars(module).items() if "eps" in name.lower() and isinstance(value, int | float)
    ]
    return list(dict.fromkeys([*named, 1e-5, 1e-6, torch.finfo(given.dtype).eps]))


def _formulas(weight: Tensor | None) -> list[tuple[NormKind, Tensor | None, bool]]:
    if weight is None:
        return [("rms", None, False), ("layer", None, True)]
    return [
        ("rms", weight, False),
        ("rms_plus_one", weight + 1, False),
        ("layer", weight, True),
        ("layer_plus_one", weight + 1, True),
    ]


def head_sizes(config: Any) -> tuple[int, int, int]:
    """Number of attention heads, of those of keys and values, and the size of one, of a text configuration."""
    heads = int(config.num_attention_heads)
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    return heads, shared, int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def find_queries(examined: Examined, heads: Mapping[str, int]) -> tuple[tuple[str, ...], Values]:
    """The maps that give attention its queries and keys, and where its values are among their features.

    Values are told by multiplying them by -2, which must multiply what attention writes by -2, bit for bit. At the
    first token of a row, queries and keys must change nothing: it looks at itself alone.

    Args:
        examined: the block.
        heads: `query`, `shared` (number of key heads) and `size` of a head.
    """
    attention = [path for path in examined.attention if examined.reaches[path].kind not in {"mixed", "streams"}]
    if len(attention) != 1:
        return (), "unknown"
    path = attention[0]
    places: set[Values] = set()
    queries = []
    for feeder in examined.fed[path]:
        width = examined.base.outputs[feeder][0].shape[-1]
        for place, mask in _value_masks(width, heads):
            if _scales(examined, path, feeder, mask):
                places.add(place)
                if place != "apart":
                    queries.append(feeder)
                break
        else:
            mask = torch.zeros(width, dtype=torch.bool)
            queries.append(feeder)
        if not bool(mask.all()) and not _only_directs(examined, path, feeder, mask):
            return tuple(queries), "unknown"
    return tuple(queries), places.pop() if len(places) == 1 else "unknown"


def _value_masks(width: int, heads: Mapping[str, int]) -> list[tuple[Values, Tensor]]:
    masks: list[tuple[Values, Tensor]] = [("apart", torch.ones(width, dtype=torch.bool))]
    size, shared, query = heads["size"], heads["shared"], heads["query"]
    if width == (query + 2 * shared) * size:
        masks.append(("last", torch.arange(width) >= (query + shared) * size))
    if width == 3 * query * size:
        masks.append(("by_head", torch.arange(width) % (3 * size) >= 2 * size))
    return masks


def _scales(examined: Examined, path: str, feeder: str, mask: Tensor) -> bool:
    def edit(output: Tensor) -> Tensor:
        return torch.where(mask.to(output.device), -2 * output, output)

    scaled = examined.replay.run(frozen=examined.frozen, edits={feeder: edit}).inputs[path]
    return same(scaled, -2 * examined.base.inputs[path])


def _only_directs(examined: Examined, path: str, feeder: str, mask: Tensor) -> bool:
    width = len(mask)

    def edit(output: Tensor) -> Tensor:
        rows = output.reshape(-1, width)
        rows[0] = torch.where(mask.to(rows.device), rows[0], -2 * rows[0])
        return rows.reshape(output.shape)

    changed = examined.replay.run(frozen=examined.frozen, edits={feeder: edit}).inputs[path]
    return same(by_cell(changed)[0], by_cell(examined.base.inputs[path])[0])
