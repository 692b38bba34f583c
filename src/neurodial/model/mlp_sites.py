"""Which linear maps of a block lead from neurons back to the residual stream, by intervention on the replayed block.

1. A map may be one where a change of its output reaches the block's output.
2. Its *feeders* are the earlier maps whose change moves its input. If other tokens' inputs move too, it is attention.
3. *Closure*, the proof: with every map's output held, its input must not move, whatever else the block is given.
4. Multiplying single features of a feeder by -2 shows which coordinate each moves, and whether it multiplies it by -2
   too, bit for bit: a power of two needs no tolerance in any dtype, and the sign excludes ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from neurodial.model.layout import MapRows, Part, WriteKind
from neurodial.model.replay import (
    CELLS,
    ROWS,
    TOKENS,
    Frozen,
    Replay,
    Run,
    by_cell,
    holds_experts,
    random_outputs,
    same,
)

CELL = 1
"""The token that is changed: the second of the first row, so that one before it and some after it can move."""


class Reach(NamedTuple):
    """How a change of a module's output arrives at the block's output.

    Attributes:
        kind: as of a write; `bent` where it is not proportional.
        factor: of a proportional one.
    """

    kind: WriteKind | Literal["bent"]
    factor: float = 1.0


class Feeder(NamedTuple):
    """A map that feeds another.

    Attributes:
        path: the map.
        part: the features that feed one coordinate each; `mixing` where a feature moves several coordinates, `other`
            where the order is another one.
        scales: multiplying these features by -2 multiplies the coordinates by -2, exactly.
    """

    path: str
    part: Part | Literal["mixing", "other"]
    scales: bool


@dataclass
class Examined:
    """A block under examination.

    Attributes:
        replay: runs it.
        hidden: width of the residual stream.
        natural: a run with its own maps.
        frozen: random outputs of its maps.
        base: the run with those.
        reaches: of the maps whose change reaches the output, by path.
        attention: maps that other tokens' changes reach, each with the maps through which they do.
        fed: all maps that feed each of `reaches`, through other tokens or not.
        acausal: maps through which later tokens reach earlier ones.
        rejected: what was looked at and why it is no site.
    """

    replay: Replay
    hidden: int
    natural: Run
    frozen: Frozen
    base: Run
    reaches: dict[str, Reach] = field(default_factory=dict)
    attention: dict[str, list[str]] = field(default_factory=dict)
    fed: dict[str, list[str]] = field(default_factory=dict)
    acausal: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, replay: Replay) -> Examined:
        """Run the block as it is, and with random outputs of its maps."""
        natural = replay.run()
        frozen = random_outputs(natural)
        base = replay.run(frozen=frozen, watched=True)
        return cls(replay, replay.block.stream.shape[-1], natural, frozen, base)

    def is_deterministic(self) -> bool:
        """Whether the same input gives the same output."""
        return same(self.replay.run(frozen=self.frozen).result, self.base.result)


@dataclass(frozen=True)
class FoundSite:
    """A map whose input is neurons.

    Attributes:
        down: the map.
        width: number of neurons.
        up: features that scale the neurons or, without a gate, go through the activation.
        gate: features that go through the activation, in a gated MLP.
        up_rows_scale: scaling a row of `up` scales its neuron exactly.
        is_gated: whether two features meet in a neuron.
    """

    down: str
    width: int
    up: MapRows | None
    gate: MapRows | None
    up_rows_scale: bool
    is_gated: bool


def pushed(width: int) -> Callable[[Tensor], Tensor]:
    """Add something to every feature of one token."""

    def edit(output: Tensor) -> Tensor:
        rows = output.reshape(-1, width)
        rows[CELL] += torch.linspace(0.5, 1.5, width).to(rows)
        return rows.reshape(output.shape)

    return edit


def reach_of(examined: Examined, path: str, before: Tensor) -> Reach | None:
    """How a change of a module's output reaches the block's output; None where it does not.

    Args:
        examined: the block.
        path: a map or another module.
        before: what it gave in the base run.
    """
    moved = examined.replay.run(frozen=examined.frozen, edits={path: pushed(before.shape[-1])}).result
    change = by_cell(moved.double() - examined.base.result.double()).cpu()
    if not bool(change[CELL].any()):
        return None
    others = torch.arange(CELLS) != CELL
    if bool(change[others].any()):
        return Reach("mixed")
    if change.shape[1] != examined.hidden:
        return Reach("streams")
    push = torch.zeros(CELLS, examined.hidden, dtype=torch.float64)
    given = before.detach().reshape(-1, before.shape[-1])
    push[CELL] = (pushed(before.shape[-1])(given.clone()).double() - given.double()).cpu()[CELL]
    factor = float(change[CELL] @ push[CELL] / push[CELL].square().sum())
    largest = float(examined.base.result.abs().max()) + float(moved.abs().max())
    bound = 4 * torch.finfo(moved.dtype).eps * largest
    if float((change[CELL] - factor * push[CELL]).abs().max()) > bound:
        return Reach("bent")
    if abs(factor - 1) * float(push.abs().max()) <= bound:
        return Reach("plain")
    return Reach("factor" if _is_constant(examined, path, before, factor, bound) else "gated", factor)


def _is_constant(examined: Examined, path: str, before: Tensor, factor: float, bound: float) -> bool:
    """Whether another token, with another residual stream, has the same factor."""
    width, place = before.shape[-1], CELLS - 1

    def edit(output: Tensor) -> Tensor:
        rows = output.reshape(-1, width)
        rows[place] = rows[place] + 1
        return rows.reshape(output.shape)

    moved = examined.replay.run(frozen=examined.frozen, edits={path: edit}).result
    change = by_cell(moved.double() - examined.base.result.double()).cpu()[place]
    return float((change - factor).abs().max()) <= 2 * bound


def find_reaches(examined: Examined) -> None:
    """Fill `reaches`: of every map that gives one vector of residual width for each token."""
    for path, outputs in examined.base.outputs.items():
        output = outputs[0]
        if output.shape[-1] != examined.hidden or holds_experts(examined.replay.maps[path]):
            continue
        if path not in examined.base.inputs or examined.base.inputs[path].numel() % CELLS:
            continue
        if output.numel() != CELLS * examined.hidden:
            examined.rejected[path] = f"it runs on {output.numel() // examined.hidden} tokens of {CELLS}: routed"
        elif len(outputs) > 1:
            examined.rejected[path] = f"it runs {len(outputs)} times in the block"
        elif (reach := reach_of(examined, path, output)) is not None:
            examined.reaches[path] = reach


def find_reach_of(examined: Examined, path: str) -> None:
    """Add an experts module to `reaches`, where it gives one vector of residual width for each token that arrives."""
    output = examined.base.outputs[path][0]
    if output.numel() != CELLS * examined.hidden:
        return
    reach = reach_of(examined, path, output)
    if reach is not None:
        examined.reaches[path] = reach


def find_sites(examined: Examined) -> list[FoundSite]:
    """The maps of residual width whose inputs are neurons; the others go to `attention` or `rejected`."""
    feeders: dict[str, list[Feeder]] = {path: [] for path in examined.reaches}
    order = list(examined.base.outputs)
    for place, path in enumerate(order):
        later = [down for down in order[place + 1 :] if down in feeders]
        if later:
            _feed(examined, path, later, feeders)
    closed = examined.replay.run(frozen=examined.frozen, seed=2, noisy=True)
    sites = []
    for down, fed in feeders.items():
        reason = _refusal(examined, down, fed, closed)
        if reason is None:
            site = _site(examined, down, fed)
            if site is not None:
                sites.append(site)
                continue
            reason = f"there is no activation between {_listed(fed)} and it"
        examined.rejected[down] = reason
    return sites


def _refusal(examined: Examined, down: str, fed: Sequence[Feeder], closed: Run) -> str | None:
    if down in examined.attention:
        return f"other tokens reach it through {', '.join(examined.attention[down])}"
    if down not in closed.inputs or not same(closed.inputs[down], examined.base.inputs[down]):
        return f"its input is not a function of {_listed(fed)} alone" if fed else "no other map feeds it"
    return None if fed else "no other map feeds it"


def _listed(fed: Sequence[Feeder]) -> str:
    return ", ".join(f"{feeder.path} ({feeder.part})" for feeder in fed) or "other maps"


def _feed(examined: Examined, path: str, later: list[str], feeders: dict[str, list[Feeder]]) -> None:
    """Which of the later maps a map feeds, and how."""
    output = examined.base.outputs[path][0]
    width = output.shape[-1]
    is_aligned = output.numel() == CELLS * width
    moved = examined.replay.run(frozen=examined.frozen, edits={path: _nudged(width)})
    touched = {}
    for down in later:
        before, after = examined.base.inputs[down], moved.inputs.get(down)
        if after is not None and after.shape == before.shape and not same(before, after):
            touched[down] = [bool((a != b).any()) for a, b in zip(by_cell(after), by_cell(before), strict=True)]
    if not touched:
        return
    features = _features(width)
    single = examined.replay.run(frozen=examined.frozen, edits={path: _doubled(width, features)})
    for down, cells in touched.items():
        examined.fed.setdefault(down, []).append(path)
        if not is_aligned or holds_experts(examined.replay.maps[path]) or not cells[CELL] or sum(cells) > 1:
            examined.attention.setdefault(down, []).append(path)
            if is_aligned and cells[CELL - 1] and _rows_first(examined):
                examined.acausal.append(path)
            continue
        before, after = by_cell(examined.base.inputs[down]), by_cell(single.inputs[down])
        feeders[down].extend(_matched(path, width, features, before, after))


def _rows_first(examined: Examined) -> bool:
    shape = tuple(examined.replay.block.stream.shape)
    return shape[:2] == (ROWS, TOKENS) or shape[0] == CELLS or shape[1:3] == (ROWS, TOKENS)


def _nudged(width: int) -> Callable[[Tensor], Tensor]:
    def edit(output: Tensor) -> Tensor:
        rows = output.reshape(-1, width)
        place = min(CELL, len(rows) - 1)
        rows[place] = rows[place] * 1.5 + 0.25
        return rows.reshape(output.shape)

    return edit


def _features(width: int) -> Tensor:
    """For each token one feature: the corners of both halves, and random ones."""
    half = width // 2
    corners = [0, width - 1, half - 1, half]
    chosen = torch.randperm(width, generator=torch.Generator().manual_seed(3)).tolist()
    features = list(dict.fromkeys([*(max(0, corner) for corner in corners), *chosen]))[:CELLS]
    return torch.tensor((features * CELLS)[:CELLS])


def _doubled(width: int, features: Tensor) -> Callable[[Tensor], Tensor]:
    def edit(output: Tensor) -> Tensor:
        if output.numel() != CELLS * width:
            return output
        rows = output.reshape(CELLS, width)
        rows[torch.arange(CELLS), features.to(rows.device)] *= -2
        return rows.reshape(output.shape)

    return edit


def _matched(path: str, features_width: int, features: Tensor, before: Tensor, after: Tensor) -> list[Feeder]:
    width = before.shape[1]
    pairs: list[tuple[int, int, bool]] = []
    for cell in range(CELLS):
        hit = (after[cell] != before[cell]).nonzero().flatten().tolist()
        if len(hit) > 1:
            return [Feeder(path, "mixing", scales=False)]
        if hit:
            exact = bool(after[cell, hit[0]] == -2 * before[cell, hit[0]])
            pairs.append((int(features[cell]), hit[0], exact))
    kinds: dict[Part, Callable[[int, int], bool]] = {
        "all": lambda feature, place: feature == place and features_width == width,
        "first": lambda feature, place: feature == place and features_width > width,
        "second": lambda feature, place: feature == place + features_width - width and features_width > width,
        "even": lambda feature, place: feature == 2 * place and features_width == 2 * width,
        "odd": lambda feature, place: feature == 2 * place + 1 and features_width == 2 * width,
    }
    groups = {part: [pair for pair in pairs if rule(*pair[:2])] for part, rule in kinds.items()}
    halves = len(groups["first"]) + len(groups["second"]) >= len(groups["even"]) + len(groups["odd"])
    parts: tuple[Part, ...] = ("all",) if groups["all"] else ("first", "second") if halves else ("even", "odd")
    matched = [Feeder(path, part, scales=all(pair[2] for pair in groups[part])) for part in parts if groups[part]]
    if len(pairs) > sum(len(groups[part]) for part in parts):
        return [Feeder(path, "other", scales=False)]
    return matched or [Feeder(path, "mixing", scales=False)]


def _site(examined: Examined, down: str, fed: Sequence[Feeder]) -> FoundSite | None:
    width = by_cell(examined.base.inputs[down]).shape[1]
    single = [feeder for feeder in fed if feeder.part not in {"mixing", "other"}]
    scaling = [_rows(feeder) for feeder in single if feeder.scales]
    bent = [_rows(feeder) for feeder in single if not feeder.scales]
    mixing = len(fed) - len(single)
    if scaling and (bent or mixing or len(scaling) > 1):
        gate = bent[0] if len(bent) == 1 and not mixing else None
        return FoundSite(down, width, scaling[0], gate, up_rows_scale=len(scaling) == 1, is_gated=True)
    if len(bent) == 1 and not mixing:
        return FoundSite(down, width, bent[0], None, up_rows_scale=False, is_gated=False)
    if len(bent) > 1 or mixing > 1:
        return FoundSite(down, width, None, None, up_rows_scale=False, is_gated=True)
    return None


def _rows(feeder: Feeder) -> MapRows:
    return MapRows(feeder.path, cast(Part, feeder.part))
