"""The neurons of routed experts, where any implementation multiplies them by the experts' down weight.

1. While an experts module runs, its down weight is shadowed by a tensor that shares its memory.
2. Whatever multiplies by it (a loop over experts, a batched or a grouped product) goes through the shadow's
   `__torch_function__`. There the activations, one row for each token and expert, go through the edits; every other
   operation sees the plain weight. So nothing of the configuration changes, and no bit where no edit changes one.
3. How the weight was indexed tells whose the rows are: by a number, one expert's; by a list of experts, each token's
   experts one after the other; not at all, all rows sorted by expert, or every expert with every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from neurodial.errors import SteeringError


@dataclass(frozen=True, eq=False)
class Visits:
    """Whose some rows of activations are: a row is one visit of a token to an expert.

    Attributes:
        experts: the expert of each row.
        shape: rows and tokens of the batch.
        told: gives the token of each row, counted through the batch row by row, and its routing weight, None where the
            activations hold it already; worked out where it is asked for.
    """

    experts: Int[Tensor, "visit"]
    shape: tuple[int, int]
    told: Callable[[], tuple[Tensor, Tensor | None]]

    @cached_property
    def _told(self) -> tuple[Tensor, Tensor | None]:
        return self.told()

    @property
    def cells(self) -> Int[Tensor, "visit"]:
        """The token of each row."""
        return self._told[0]

    @property
    def weights(self) -> Float[Tensor, "visit"] | None:
        """The routing weight of each row."""
        return self._told[1]

    @property
    def rows(self) -> Int[Tensor, "visit"]:
        """The row of the batch of each visit."""
        return self.cells // self.shape[1]

    def at(self, chosen: Int[Tensor, "some"]) -> Visits:
        """Some of the visits."""
        weights = None if self.weights is None else self.weights[chosen]
        return Visits(self.experts[chosen], self.shape, lambda: (self.cells[chosen], weights))

    def weighted(self, activations: Float[Tensor, "visit neuron"]) -> Float[Tensor, "visit neuron"]:
        """Routing weight times activation, in float32 or better: what the column of a neuron is written with."""
        wide = activations.to(torch.promote_types(activations.dtype, torch.float32))
        return wide if self.weights is None else wide * self.weights.to(wide)[:, None]


RoutedEdit = Callable[[Tensor, Visits], Tensor | None]
"""Gets activations (visit, neuron), of one expert or of several, and returns their replacement, or None."""


@dataclass(eq=False)
class _TapEdit:
    edit: RoutedEdit
    done: Callable[[], None] | None


class Tap:
    """Edits at the neurons of one experts module; while there are any, its `forward` is wrapped.

    Args:
        module: the experts module.
        down: its down weight, by its path in the module.
        shape: rows and tokens of the present batch.
        released: called when the last edit is removed.
    """

    def __init__(
        self, module: nn.Module, down: str, shape: Sequence[int], released: Callable[[], None] | None = None
    ) -> None:
        path, _, self._down = down.rpartition(".")
        self._module, self._owner, self._shape, self._released = module, module.get_submodule(path), shape, released
        self._entries: list[_TapEdit] = []
        self._call: _Call | None = None
        # Where accelerate brings offloaded weights, its own forward does so before it calls this one.
        self._slot = "_old_forward" if "_old_forward" in vars(module) else "forward"
        self._own = vars(module).get(self._slot)
        self._inner = getattr(module, self._slot)
        # A compiler would not see what a shadow does. It takes seconds to import, and measuring runs without it.
        self._run = self._tapped if released is None else torch.compiler.disable(self._tapped)
        setattr(module, self._slot, self._forward)

    def add(self, edit: RoutedEdit, *, first: bool = False, done: Callable[[], None] | None = None) -> TapHandle:
        """Install an edit; `done` is called when the module has run."""
        entry = _TapEdit(edit, done)
        self._entries.insert(0 if first else len(self._entries), entry)
        return TapHandle(self, entry)

    def remove(self, entry: _TapEdit) -> None:
        """Remove an edit; without any the module is as it was."""
        self._entries.remove(entry)
        if self._entries:
            return
        if self._own is None:
            delattr(self._module, self._slot)
        else:
            setattr(self._module, self._slot, self._own)
        if self._released is not None:
            self._released()

    def multiplied(self, activations: Tensor, index: Any) -> Tensor:
        """The activations that the down weight, so indexed, is to be multiplied by instead."""
        assert self._call is not None  # noqa: S101  # a shadow lives as long as a call
        rows, is_replaced = activations.reshape(-1, activations.shape[-1]), False
        visits = self._call.visits(activations, index, self._shape)
        self._call.seen = True
        for entry in self._entries:
            replaced = entry.edit(rows, visits)
            if replaced is not None:
                rows, is_replaced = replaced, True
        return rows.reshape(activations.shape) if is_replaced else activations

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def _tapped(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self._module, "_is_expert_parallel", False):
            raise SteeringError(
                "The experts are spread over several processes.", wanted="all experts of a layer on one device"
            )
        self._call = _Call.of([*args, *kwargs.values()])
        weight = getattr(self._owner, self._down)
        vars(self._owner)[self._down] = _Shadow.of(weight, self, None)
        try:
            output = self._inner(*args, **kwargs)
        finally:
            vars(self._owner).pop(self._down)
        if not self._call.seen and self._call.reaches(int(weight.shape[0])):
            raise SteeringError(
                f"The experts ran, and nothing was seen to be multiplied by their weight {self._down}: the kernel "
                "hides their activations.",
                wanted="an implementation of torch's own products",
                fix='Load the model with experts_implementation="grouped_mm" or "eager", unquantised.',
            )
        self._call = None
        for entry in self._entries:
            if entry.done is not None:
                entry.done()
        return output


class TapHandle:
    """An installed edit."""

    def __init__(self, tap: Tap, entry: _TapEdit) -> None:
        self._tap, self._entry = tap, entry

    def remove(self) -> None:
        """Remove it."""
        self._tap.remove(self._entry)


TAPS: WeakKeyDictionary[nn.Module, Tap] = WeakKeyDictionary()
"""The tap of each experts module that has one now."""


@dataclass
class _Call:
    """One run of an experts module: which tokens go to which experts, with which weights, if it is told."""

    index: Int[Tensor, "cell choice"] | None
    weights: Float[Tensor, "cell choice"] | None
    seen: bool = False

    @classmethod
    def of(cls, given: Sequence[Any]) -> _Call:
        tensors = [value for value in given if isinstance(value, Tensor)]
        index = next((tensor for tensor in tensors if not tensor.is_floating_point()), None)
        if index is None:
            return cls(None, None)
        choices = index.shape[-1]
        weights = (tensor for tensor in tensors if tensor.is_floating_point() and tensor.shape == index.shape)
        return cls(index.reshape(-1, choices), next((tensor.reshape(-1, choices) for tensor in weights), None))

    def reaches(self, experts: int) -> bool:
        """Whether some token goes to one of the experts; identity experts have higher numbers."""
        return self.index is None or bool((self.index < experts).any())

    def visits(self, activations: Tensor, index: Any, shape: Sequence[int]) -> Visits:
        """Whose the rows of some activations are, by how the weight was indexed that they are multiplied by.

        Raises:
            SteeringError: not every token of the batch came, or it can't be told which.
        """
        experts, told = self._rows(activations, index)
        rows, tokens = shape
        count = activations.shape[1] if self.index is None else len(self.index)
        if count != rows * tokens or len(experts) != activations.numel() // activations.shape[-1]:
            raise SteeringError(
                f"The experts were given {count} tokens of a batch of {rows} x {tokens}, in {len(experts)} rows.",
                wanted="every token of the batch",
            )
        return Visits(experts, (rows, tokens), told)

    def _rows(self, activations: Tensor, index: Any) -> tuple[Tensor, Callable[[], tuple[Tensor, Tensor | None]]]:
        """The expert of each row, and what gives its token and weight."""
        device = activations.device
        if self.index is None:
            if activations.dim() != 3 or index is not None:
                raise SteeringError(
                    "Which tokens the experts were given is not known: they are told how many alone.",
                    wanted="which expert each token goes to, as an argument",
                )
            number, tokens = activations.shape[:2]
            experts = torch.arange(number, device=device).repeat_interleave(tokens)
            return experts, lambda: (torch.arange(tokens, device=device).repeat(number), None)
        choices, weights = self.index.shape[1], self.weights
        if index is None:
            sorted_experts, order = torch.sort(self.index.reshape(-1))  # as the grouped product sorts them
            return sorted_experts, lambda: (order // choices, None if weights is None else weights.reshape(-1)[order])
        if isinstance(index, Tensor) and index.numel() == self.index.numel():
            in_order = None if weights is None else weights.reshape(-1)
            return index.reshape(-1), lambda: (torch.arange(index.numel(), device=device) // choices, in_order)
        position, cells = torch.where((self.index == index).T)
        return self.index[cells, position], lambda: (cells, None if weights is None else weights[cells, position])


_RESHAPED = {
    torch.Tensor.T.__get__,  # type: ignore[attr-defined]
    torch.Tensor.mT.__get__,  # type: ignore[attr-defined]
    torch.Tensor.contiguous,
    torch.Tensor.permute,
    torch.Tensor.reshape,
    torch.Tensor.t,
    torch.Tensor.to,
    torch.Tensor.transpose,
    torch.Tensor.view,
    torch.transpose,
}
_PRODUCTS = {
    functional.linear,
    torch.Tensor.__matmul__,
    torch.Tensor.__rmatmul__,
    torch.Tensor.bmm,
    torch.Tensor.matmul,
    torch.Tensor.mm,
    torch.bmm,
    torch.matmul,
    torch.mm,
}


class _Shadow(torch.Tensor):
    """A weight that hands the activations it is multiplied by to a tap, and is plain in every other operation."""

    _plain: Tensor
    _tap: Tap
    _index: Any

    @classmethod
    def of(cls, plain: Tensor, tap: Tap, index: Any) -> _Shadow:
        shadow = plain.detach().as_subclass(cls)
        shadow._plain, shadow._tap, shadow._index = plain, tap, index
        return shadow

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if len(args) == 1 and isinstance(args[0], cls) and not kwargs and func not in _RESHAPED:
            return func(args[0]._plain)  # mostly the getter of a property
        shadow = next(value for value in _flat((*args, *(kwargs or {}).values())) if isinstance(value, _Shadow))
        plain = [_plainly(value) for value in args]
        named = {name: _plainly(value) for name, value in (kwargs or {}).items()}
        if func is torch.Tensor.__getitem__:
            return _Shadow.of(func(*plain, **named), shadow._tap, plain[1])
        if func in _RESHAPED:
            return _Shadow.of(func(*plain, **named), shadow._tap, shadow._index)
        if func in _PRODUCTS or "grouped_mm" in str(func):
            number = next(n for n, value in enumerate(args) if isinstance(value, Tensor) and value is not shadow)
            given = plain[number]
            is_column = number == 1 and func is not torch.Tensor.__rmatmul__ and given.shape[-1] == 1  # weight @ rows
            rows = given.mT if is_column else given
            edited = shadow._tap.multiplied(rows, shadow._index)
            if edited is not rows:
                plain[number] = edited.reshape(given.shape)
        return func(*plain, **named)


def _flat(values: Any) -> Any:
    for value in values:
        yield from _flat(value) if isinstance(value, tuple | list) else (value,)


def _plainly(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_plainly(item) for item in value)
    return value._plain if isinstance(value, _Shadow) else value
