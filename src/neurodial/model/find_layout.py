"""Finding and proving the layout of a live model, from one small pass and replays of its blocks.

One block of each shape is taken apart in full. Of the others, the neurons must equal those of the first bit for bit,
from the same feeders and another residual stream, and the writes must add up too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from neurodial.errors import LayoutError
from neurodial.model.block_parts import find_activation, find_norms, find_queries, find_writes, head_sizes
from neurodial.model.damage import error_text
from neurodial.model.in_training import unwrapped
from neurodial.model.layout import BlockLayout, Layout, MlpSite, Proof
from neurodial.model.light_maps import light_maps
from neurodial.model.mlp_sites import Examined, find_reach_of, find_reaches, find_sites
from neurodial.model.outside import Passed, find_decoder, find_final_norm, find_head, goes_on, outside, takes
from neurodial.model.plain_weight import is_plain
from neurodial.model.replay import (
    CELLS,
    ROWS,
    TOKENS,
    Frozen,
    RecordedBlock,
    Replay,
    by_cell,
    holds_experts,
    recording,
    same,
)
from neurodial.model.routed_sites import find_experts, kept_otherwise, rebuilds
from neurodial.provenance import canonical_json, sha256

_FEW = 2
"""Replays of a block that is held against one of its shape: its neurons, and its experts' output."""
_OTHER_STREAM = 3
"""Seed of the residual stream of closure."""


@dataclass(frozen=True, eq=False)
class _Known:
    """A block that was taken apart: what every other of its shape must agree with."""

    layout: BlockLayout
    frozen: Frozen
    neurons: Tensor | None
    stream_error: float
    rejected: dict[str, str]
    unstacked: tuple[str, ...] = ()


_SHAPES: dict[str, _Known] = {}
"""Shapes seen in this process; a model's blocks are still held against them."""
_SHAPES_KEPT = 256


def find_layout(model: Any) -> Layout:
    """Measure where a model's neurons are and where its blocks write.

    The model runs once on twelve tokens, its blocks' maps standing in for themselves; then its blocks run again, one at
    a time, as they are. Nothing about it is changed.

    Raises:
        LayoutError: it can't be run on text alone, has no MLP, is no decoder, or is built in a way that can't be used;
            the message says what was found, and why each candidate was rejected.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> layout = find_layout(tiny_model("opt"))
        >>> [(block.path, block.site.down, block.site.width) for block in layout.blocks]
        [('model.decoder.layers.0', 'fc2', 24), ('model.decoder.layers.1', 'fc2', 24)]
    """
    model = unwrapped(model)
    label = str(getattr(model.config.get_text_config(), "model_type", "unknown"))
    _refuse_unloaded(model, label)
    with _resting(model):
        with light_maps(model):
            blocks, passed, logits = _run(model, label)
            decoder = find_decoder(model, [block.path for block in blocks])
            hidden = passed[decoder].value if decoder else blocks[-1].output
            shares_prefixes = goes_on(model.get_submodule(decoder), ordinary_tokens(model), hidden)
        known = [_known(model, block, label) for block in blocks]
        final_norm = find_final_norm(model, decoder, passed, hidden)
        head, logits_error = find_head(model, decoder, passed, hidden, logits)
    layouts = tuple(shape.layout for shape, _, _ in known)
    _refuse_without_neurons(label, layouts, [shape for shape, _, _ in known])
    errors = [error for shape, error, _ in known if shape.layout.writes_add_up]
    proof = Proof(
        dtype=str(blocks[0].stream.dtype).removeprefix("torch."),
        tokens=CELLS,
        in_full=sum(replays > _FEW for _, _, replays in known),
        by_closure=sum(0 < replays <= _FEW for _, _, replays in known),
        replays=sum(replays for _, _, replays in known),
        stream_error=max(errors, default=0.0),
        logits_error=logits_error if head.path is not None else 0.0,
    )
    hidden_size = int(blocks[0].stream.shape[-1])
    one_stream = all(tuple(block.stream.shape[:-1]) == (ROWS, TOKENS) for block in blocks)
    return Layout(label, decoder, hidden_size, layouts, final_norm, head, one_stream, shares_prefixes, proof)


def _refuse_unloaded(model: nn.Module, label: str) -> None:
    """Weights on the meta device hold nothing, unless accelerate brings them when they are needed."""
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if parameter.is_meta and not hasattr(owner, "_hf_hook"):
            raise LayoutError(
                f"The {label} model's weights were not all loaded, such as {name}.",
                wanted="a model whose weights are in memory, or offloaded by accelerate",
            )


@contextmanager
def _resting(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and back in the mode of before."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def _run(model: Any, label: str) -> tuple[list[RecordedBlock], dict[str, Passed], Tensor | None]:
    ids = ordinary_tokens(model)
    options = {"use_cache": False} if takes(model, "use_cache") else {}
    try:
        with recording(model) as blocks, outside(model) as passed:
            output = model(input_ids=ids, **options)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise LayoutError(
            f"The {label} model can't be run on {CELLS} tokens of text: {error_text(error)}",
            wanted="a model that turns token ids alone into logits",
        ) from error
    if not blocks:
        raise LayoutError(
            f"The {label} model has no list of blocks that hand on a residual stream.",
            wanted="a decoder whose blocks stand in a ModuleList",
        )
    shared = next((block for block in blocks.values() if block.visits > 1), None)
    if shared is not None:
        raise LayoutError(
            f"The {label} model runs its block {shared.path} {shared.visits} times in one pass.",
            wanted="blocks that run once, so that a neuron has one activation for each token",
        )
    odd = next((block for block in blocks.values() if (ROWS, TOKENS) not in _leading(block.stream)), None)
    if odd is not None:
        raise LayoutError(
            f"The block {odd.path} of the {label} model is given {tuple(odd.stream.shape)} for {ROWS} rows of {TOKENS} "
            "tokens.",
            wanted="a residual stream of (row, token, hidden)",
        )
    logits = getattr(output, "logits", None)
    return list(blocks.values()), passed, logits


def _leading(stream: Tensor) -> tuple[tuple[int, ...], ...]:
    """The axes in which rows and tokens may stand: first, or after an axis of several streams."""
    return tuple(stream.shape[:2]), tuple(stream.shape[1:3])


def ordinary_tokens(model: Any) -> Tensor:
    """Token ids, (row, token), that stand for nothing special in the configuration."""
    values = {**model.config.to_dict(), **model.config.get_text_config().to_dict()}
    special = {value for name, value in values.items() if "token" in name and isinstance(value, int)}
    rows = int(model.get_input_embeddings().weight.shape[0])
    ordinary = [token for token in range(3, min(rows, 1000)) if token not in special]
    chosen = [ordinary[(7 * place + 5) % len(ordinary)] for place in range(CELLS)]
    embedding = model.get_input_embeddings()
    device = embedding.weight.device
    if device.type == "meta":
        device = torch.device(getattr(getattr(embedding, "_hf_hook", None), "execution_device", None) or "cpu")
    return torch.tensor(chosen, device=device).reshape(ROWS, TOKENS)


def _known(model: Any, block: RecordedBlock, label: str) -> tuple[_Known, float, int]:
    """The block's layout, the error of its writes, and how many replays that took."""
    shape = _shape(model, block)
    with Replay(block) as replay:
        known = _SHAPES.get(shape)
        if known is not None and _agrees(replay, known):
            layout = replace(known.layout, path=block.path)
            return replace(known, layout=layout), known.stream_error, replay.count
        known = _taken_apart(replay, label, _heads(model))
        if len(_SHAPES) >= _SHAPES_KEPT:
            _SHAPES.clear()
        _SHAPES[shape] = known
        return known, known.stream_error, replay.count


def _shape(model: Any, block: RecordedBlock) -> str:
    """What two blocks must share so that closure is enough: configuration, kernels, classes, sizes, dtypes, device."""
    config = model.config.to_dict()
    config.pop("_name_or_path", None)
    parts = [
        (
            path,
            f"{type(module).__module__}.{type(module).__qualname__}",
            [(name, tuple(value.shape), str(value.dtype)) for name, value in module.named_parameters(recurse=False)],
            type(getattr(module, "_hf_hook", None)).__name__,
            str(getattr(vars(module).get("forward"), "__qualname__", "")),
        )
        for path, module in block.module.named_modules()
    ]
    kernels = str(getattr(model.config.get_text_config(), "_experts_implementation", None))
    return sha256(canonical_json([repr(config), kernels, parts, str(block.stream.dtype), str(block.stream.device)]))


def _agrees(replay: Replay, known: _Known) -> bool:
    experts, site = known.layout.experts, known.layout.site
    if experts is not None and not rebuilds(replay, experts):
        return False
    if site is None or known.neurons is None:
        return True
    run = replay.run(frozen=known.frozen, seed=_OTHER_STREAM, noisy=True)
    return site.down in run.inputs and same(run.inputs[site.down], known.neurons)


def _heads(model: Any) -> dict[str, int]:
    try:
        heads = head_sizes(model.config.get_text_config())
    except (
        AttributeError,
        ValueError,
        TypeError,
        RuntimeError,
    ):  # a configuration may refuse to name one number for all layers
        heads = (1, 1, 1)
    return dict(zip(("query", "shared", "size"), heads, strict=True))


def _taken_apart(replay: Replay, label: str, heads: dict[str, int]) -> _Known:
    block = replay.block
    examined = Examined.of(replay)
    if not examined.is_deterministic():
        raise LayoutError(
            f"The block {block.path} of the {label} model gives another output for the same input.",
            wanted="a model without dropout or other chance in evaluation mode",
        )
    find_reaches(examined)
    sites = find_sites(examined)
    if examined.acausal:
        raise LayoutError(
            f"In the block {block.path} of the {label} model earlier tokens see later ones, through "
            f"{examined.acausal[0]}.",
            wanted="a decoder; this is an encoder",
            fix="Some types are decoders where their configuration says is_decoder=True.",
        )
    if len(sites) > 1:
        raise LayoutError(
            f"The block {block.path} of the {label} model has {len(sites)} MLPs: "
            f"{' and '.join(site.down for site in sites)}.",
            wanted="one MLP for each block",
        )
    site = sites[0] if sites else None
    experts, unread = find_experts(replay)
    examined.rejected.update(unread)
    if experts is not None:
        find_reach_of(examined, experts.module)
    carrying = experts.module if site is None and experts is not None else site and site.down
    writes = find_writes(examined, carrying if carrying in examined.reaches else None)
    norms, inner_norms = find_norms(examined, writes.carriers)
    queries, values = find_queries(examined, heads)
    layout = BlockLayout(
        path=block.path,
        site=None
        if site is None
        else MlpSite(
            down=site.down,
            width=site.width,
            up=site.up,
            gate=site.gate,
            activation=find_activation(examined, site.gate if site.is_gated else site.up),
            up_rows_scale=site.up_rows_scale,
            is_gated=site.is_gated,
            flattens=examined.base.inputs[site.down].dim() == 2,
            transposed=_transposed(examined, site.down, site.width),
            write=cast(Any, writes.mlp),
        ),
        experts=experts and replace(experts, write=None if site is not None else writes.mlp),
        attention=writes.attention,
        norms=norms,
        inner_norms=inner_norms,
        query_key=queries,
        values=values,
        writes_add_up=writes.add_up(examined.base.result.dtype),
        routed=tuple(
            path for path, module in replay.maps.items() if _is_routed(module, path in examined.natural.routed)
        ),
    )
    closed = replay.run(frozen=examined.frozen, seed=_OTHER_STREAM, noisy=True)
    neurons = None if site is None else closed.inputs[site.down]
    unstacked = tuple(kept_otherwise(block.module))
    return _Known(layout, examined.frozen, neurons, writes.error, dict(examined.rejected), unstacked)


def _is_routed(module: nn.Module, is_given_indices: bool) -> bool:  # noqa: FBT001
    """Whether it holds routed experts: parameters of three axes, and told where tokens go, or named so."""
    name = type(module).__name__.lower()
    return holds_experts(module) and (is_given_indices or "expert" in name or "moe" in name)


def _transposed(examined: Examined, path: str, width: int) -> bool:
    """Whether the weight is (in, out): by its shape or, where it is square, by what the map gives."""
    weight = getattr(examined.replay.maps[path], "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point():
        return False
    if width != examined.hidden:
        return tuple(weight.shape) == (width, examined.hidden)
    if not is_plain(weight):
        return False
    given = by_cell(examined.natural.inputs[path]).double()
    gave = by_cell(examined.natural.outputs[path][0]).double()
    gave, given = gave - gave.mean(dim=0), given - given.mean(dim=0)  # without the bias
    wide = weight.detach().double()
    return float((given @ wide - gave).abs().max()) < float((given @ wide.T - gave).abs().max())


def _refuse_without_neurons(label: str, layouts: tuple[BlockLayout, ...], known: list[_Known]) -> None:
    if any(block.site is not None or block.experts is not None for block in layouts):
        return
    looked_at = {f"{path} ({reason})": None for shape in known for path, reason in shape.rejected.items()}
    routed = {path: None for block in layouts for path in block.routed}
    routed |= {path: None for shape in known for path in shape.unstacked}
    experts = f" It has routed experts ({', '.join(routed)}), whose neurons can't be read." if routed else ""
    error = LayoutError(
        f"No MLP was found in the {len(layouts)} blocks of the {label} model.{experts} "
        f"Looked at: {'; '.join(looked_at) or 'no map of residual width writes to the stream'}.",
        wanted="a dense or shared MLP in at least one block",
        fix="Where one of these is an MLP all the same, write a Layout by hand and pass it as layout=.",
    )
    error.mlp = "routed" if routed else "none"
    raise error
