"""Running a model's blocks again, one at a time, with what their linear maps give decided from outside.

1. `record` runs the model once on a few tokens and keeps what every block was given.
2. A `Replay` runs one block again. The output of each linear map is put back to fixed random numbers, so that a change
   is seen on its direct path alone, and what is seen depends on the block's code, not on its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache

ROWS, TOKENS = 2, 6
CELLS = ROWS * TOKENS
"""Tokens of the pass, all rows together."""


@dataclass(frozen=True, eq=False)
class RecordedBlock:
    """A block and what it was given.

    Attributes:
        path: in the model.
        module: the block.
        args: positional arguments.
        kwargs: keyword arguments.
        output: the first tensor that it gave.
        visits: how often it ran.
    """

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor
    visits: int

    @property
    def slot(self) -> int | str | None:
        """The argument that holds the residual stream: its position or name."""
        if self.args and is_stream(self.args[0]):
            return 0
        named = ("hidden_states", *self.kwargs)
        return next((name for name in named if is_stream(self.kwargs.get(name))), None)

    @property
    def stream(self) -> Tensor:
        """The residual stream that it was given."""
        return cast(Tensor, self.args[0] if self.slot == 0 else self.kwargs[cast(str, self.slot)])


def is_stream(value: Any) -> bool:
    """Whether a value can be a residual stream: floating, with the tokens of the pass in its leading axes."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2:
        return False
    lead = tuple(value.shape[:-1])
    return value.shape[0] == CELLS or lead[:2] in {(ROWS, TOKENS), (TOKENS, ROWS)} or lead[1:3] == (ROWS, TOKENS)


def by_cell(values: Tensor) -> Tensor:
    """(cell, feature), the streams of a token side by side; a cell is one token of one row."""
    if values.dim() == 4 and tuple(values.shape[1:3]) == (ROWS, TOKENS):
        values = values.permute(1, 2, 0, 3)
    return values.reshape(CELLS, -1)


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor of nested tuples and lists."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list):
        return next((tensor for tensor in map(first_tensor, value) if tensor is not None), None)
    return None


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, RecordedBlock]]:
    """While inside, keep what the outermost members of module lists are given that get the residual stream."""
    blocks: dict[str, RecordedBlock] = {}
    inside: list[str] = []
    given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def before(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            if not inside:
                given[path] = (_copied(args), _copied(kwargs))
            inside.append(path)

        return hook

    def after(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            del args, kwargs
            inside.pop()
            result = first_tensor(output)
            if inside or result is None:
                return
            visits = blocks[path].visits + 1 if path in blocks else 1
            block = RecordedBlock(path, module, *given.pop(path), result.detach(), visits)
            if block.slot is not None:
                blocks[path] = block

        return hook

    handles = []
    for path, module in list_members(model):
        handles.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
        handles.append(module.register_forward_hook(after(path), with_kwargs=True))
    try:
        yield blocks
    finally:
        for handle in handles:
            handle.remove()


def list_members(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The members of module lists, in the model."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.ModuleDict):
            for name, member in module.named_children():
                yield f"{path}.{name}" if path else name, member


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_copied(item) for item in value)
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, Cache):
        return None  # a wrapper may pass one where none is wanted; replays would fill it
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value


def holds_experts(module: nn.Module) -> bool:
    """Whether it has parameters that hold all experts, as routed experts have."""
    return bool(expert_parameters(module))


def expert_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that hold all experts, by path: of three axes or, in a child that is named for it, of two.

    In two axes the experts stand one below the other. A convolution is none.

    Example:
        >>> experts = nn.Module()
        >>> experts.down = nn.Parameter(torch.zeros(4, 16, 24))
        >>> list(expert_parameters(experts)), list(expert_parameters(nn.Linear(2, 2)))
        (['down'], [])
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return {}
    own = dict(module.named_parameters(recurse=False))
    if own or "expert" not in type(module).__name__.lower():
        return {name: each for name, each in own.items() if each.dim() >= 3 and min(each.shape) > 1}
    return {
        f"{path}.{name}": each
        for path, child in module.named_children()
        if "expert" in type(child).__name__.lower()
        for name, each in child.named_parameters()
        if each.dim() == 2 and "." not in name
    }


def _is_map(module: nn.Module) -> bool:
    if holds_experts(module):
        return True
    if isinstance(module, nn.Embedding | nn.Conv1d | nn.LayerNorm):
        return False
    weight = getattr(module, "weight", None)
    is_matrix = isinstance(weight, Tensor) and weight.dim() == 2
    return is_matrix or any(hasattr(module, name) for name in ("in_features", "infeatures", "base_layer"))


def linear_maps(block: nn.Module) -> dict[str, nn.Module]:
    """The linear maps of a block by path; of an adapter's wrapper and the map in it, the wrapper."""
    maps: dict[str, nn.Module] = {}
    covered: tuple[str, ...] = ()
    for path, module in block.named_modules():
        if path and not path.startswith(covered or "\0") and _is_map(module):
            maps[path] = module
            covered = (*covered, f"{path}.")
    return maps


Frozen = Mapping[str, list[Tensor]]
"""What each map gives, at its first call, its second, …"""


@dataclass
class Run:
    """What one run of a block gave.

    Attributes:
        inputs: first input of each map, by path.
        outputs: outputs of each map, in the order of its calls.
        routed: maps that are given integers, as experts are that are told which tokens are theirs.
        parts: last input and output of every other module, by path, in the order in which they ended.
        result: the block's output.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    routed: set[str] = field(default_factory=set)
    parts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    result: Tensor = field(default_factory=lambda: torch.empty(0))


class Replay:
    """Runs a block again and again; a context manager, as it hooks the block's maps.

    Attributes:
        block: what was recorded.
        maps: the linear maps, by path.
        count: number of runs.
    """

    def __init__(self, block: RecordedBlock) -> None:
        self.block = block
        self.maps = linear_maps(block.module)
        self.count = 0
        self._run = Run()
        self._frozen: Frozen = {}
        self._edits: Mapping[str, Callable[[Tensor], Tensor]] = {}
        self._watched = False
        self._handles: list[Any] = []
        self._own: dict[str, Any] = {}

    def __enter__(self) -> Replay:
        for path, module in self.maps.items():
            self._own[path] = vars(module).get("forward")
            module.forward = self._instead(path, module.forward)
            self._handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after(path)))
        inside = {id(part) for module in self.maps.values() for part in module.modules()}
        for path, module in self.block.module.named_modules():
            if path and id(module) not in inside:
                self._handles.append(module.register_forward_hook(self._part(path), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for path, forward in self._own.items():
            if forward is None:
                del self.maps[path].forward
            else:
                self.maps[path].forward = forward

    @torch.no_grad()
    def run(
        self,
        *,
        frozen: Frozen | None = None,
        edits: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        seed: int | None = 0,
        noisy: bool = False,
        watched: bool = False,
    ) -> Run:
        """Run the block.

        Args:
            frozen: what each map gives instead of its own output; None: its own.
            edits: functions of the output of maps or other modules at their first call, after `frozen`.
            seed: of the random residual stream; None: the recorded one.
            noisy: move every other floating argument too, but for attention masks.
            watched: keep what other modules get and give.
        """
        self.count += 1
        self._run, self._frozen, self._edits, self._watched = Run(), frozen or {}, edits or {}, watched
        args, kwargs = _copied(self.block.args), _copied(self.block.kwargs)
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        if noisy:
            args = _moved(args, generator)
            kwargs = {key: value if "mask" in key else _moved(value, generator) for key, value in kwargs.items()}
        if seed is not None:
            stream = self.block.stream
            other = torch.randn(stream.shape, generator=generator).to(stream)
            if self.block.slot == 0:
                args = (other, *args[1:])
            else:
                kwargs[cast(str, self.block.slot)] = other
        result = first_tensor(self.block.module(*args, **kwargs))
        assert result is not None  # noqa: S101  # it gave one when it was recorded
        self._run.result = result.detach()
        return self._run

    def _before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            if any(_routes(value) for value in (*args, *kwargs.values())):
                self._run.routed.add(path)
            if args and isinstance(args[0], Tensor) and path not in self._run.inputs:
                self._run.inputs[path] = args[0].detach().clone()

        return hook

    def _instead(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The map's own `forward`, or what it is to give instead; the product is then not computed at all."""

        def given(*args: Any, **kwargs: Any) -> Any:
            number = len(self._run.outputs.get(path, ()))
            kept = self._frozen.get(path, ())
            is_kept = number < len(kept) and args and isinstance(args[0], Tensor)
            if is_kept and kept[number].shape[:-1] == args[0].shape[:-1]:
                return kept[number].clone()
            return forward(*args, **kwargs)

        return given

    def _after(self, path: str) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
            del module, args
            if not isinstance(output, Tensor):
                return None
            calls = self._run.outputs.setdefault(path, [])
            value: Tensor = output
            if path in self._edits and not calls:
                value = self._edits[path](value.clone())
            calls.append(value.detach().clone())
            return value

        return hook

    def _part(self, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            del module
            given, value = first_tensor([*args, *kwargs.values()]), first_tensor(output)
            if given is None or value is None:
                return None
            if path in self._edits:
                value = self._edits[path](value.clone())
                output = value if isinstance(output, Tensor) else type(output)([value, *output[1:]])
            if self._watched:
                self._run.parts.pop(path, None)
                self._run.parts[path] = (given.detach().clone(), value.detach().clone())
            return output if path in self._edits else None

        return hook


def _routes(value: Any) -> bool:
    """Whether a value can be the experts of each token."""
    return isinstance(value, Tensor) and value.dtype == torch.long and value.dim() == 2 and len(value) == CELLS


def _moved(value: Any, generator: torch.Generator) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2:
        spread = value.float().std().nan_to_num(1.0).clamp(1e-3, 1e3)
        return value + (spread * torch.randn(value.shape, generator=generator).to(value.device)).to(value.dtype)
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_moved(item, generator) for item in value)
    if isinstance(value, list):
        return [_moved(item, generator) for item in value]
    return value


def random_outputs(run: Run) -> dict[str, list[Tensor]]:
    """Random numbers in the shape of what the maps gave, the same whenever the shapes are."""
    generator = torch.Generator().manual_seed(1)
    return {
        path: [torch.randn(output.shape, generator=generator).to(output) for output in outputs]
        for path, outputs in run.outputs.items()
    }


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal, NaN to itself."""
    if first.shape != second.shape:
        return False
    return bool(torch.equal(first, second)) or bool(torch.equal(first.nan_to_num(7.25), second.nan_to_num(7.25)))
