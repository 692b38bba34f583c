"""What a model does before and after its blocks: the decoder, its final norm, and how hidden states become logits."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neurodial.model.block_parts import norm_part
from neurodial.model.layout import Head, NormPart
from neurodial.model.replay import first_tensor, list_members, same


class Passed(NamedTuple):
    """What a module outside the blocks got and gave.

    Attributes:
        given: its first tensor.
        value: the first tensor of its output.
    """

    given: Tensor | None
    value: Tensor


@contextmanager
def outside(model: nn.Module) -> Iterator[dict[str, Passed]]:
    """While inside, keep what modules outside module lists get and give, in the order in which they end."""
    passed: dict[str, Passed] = {}
    prefixes = tuple(f"{path}." for path, _ in list_members(model))

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            del module
            value = getattr(output, "last_hidden_state", None)
            value = first_tensor(output) if value is None else value
            if value is not None:
                given = first_tensor([*args, *kwargs.values()])
                passed.pop(path, None)
                passed[path] = Passed(None if given is None else given.detach(), value.detach())

        return hook

    handles = [
        module.register_forward_hook(keep(path), with_kwargs=True)
        for path, module in model.named_modules()
        if path and not f"{path}.".startswith(prefixes or "\0")
    ]
    try:
        yield passed
    finally:
        for handle in handles:
            handle.remove()


def takes(module: nn.Module, name: str) -> bool:
    """Whether a module's `forward` has a parameter of this name."""
    return name in inspect.signature(type(module).forward).parameters


def find_decoder(model: nn.Module, blocks: Sequence[str]) -> str:
    """The innermost module that holds all blocks and takes token ids; the model itself is `""`."""
    parts = [path.split(".")[:-1] for path in blocks]
    depth = 0
    while all(len(names) > depth and names[depth] == parts[0][depth] for names in parts):
        depth += 1
    while depth and not takes(model.get_submodule(".".join(parts[0][:depth])), "input_ids"):
        depth -= 1
    return ".".join(parts[0][:depth])


def find_final_norm(model: nn.Module, decoder: str, passed: dict[str, Passed], hidden: Tensor) -> NormPart | None:
    """The norm in the decoder that gives its output."""
    prefix = f"{decoder}." if decoder else ""
    for path, (given, value) in reversed(passed.items()):
        if given is None or not path.startswith(prefix) or value.numel() != hidden.numel():
            continue
        if same(value.reshape(-1), hidden.reshape(-1)):
            norm = norm_part(path, model.get_submodule(path), given, value)
            if norm is not None:
                return norm
    return None


@torch.no_grad()
def find_head(
    model: nn.Module, decoder: str, passed: dict[str, Passed], hidden: Tensor, logits: Tensor | None
) -> tuple[Head, float]:
    """The module that gives the logits from the decoder's output, with a factor and a cap, and how exactly it does."""
    if logits is None:
        return Head(None), float("inf")
    inner = f"{decoder}." if decoder else "\0"
    outer = {
        path: module
        for path, module in passed.items()
        if not f"{decoder}.".startswith(f"{path}.") and not path.startswith(inner)
    }
    given: list[tuple[str | None, Tensor]] = [(None, hidden)]
    given += [(path, value) for path, (first, value) in outer.items() if first is not None and same(first, hidden)]
    for before, states in given:
        for path, (first, value) in outer.items():
            if value.shape != logits.shape or path == before:
                continue
            try:  # of what it was given in the pass, it is known what it gives
                raw = value if first is not None and same(first, states) else model.get_submodule(path)(states)
            except (RuntimeError, TypeError, ValueError):
                continue
            if not isinstance(raw, Tensor) or raw.shape != logits.shape:
                continue
            head, error = _fitted(path, raw, logits, _caps(model))
            if error <= 16 * max(torch.finfo(logits.dtype).eps, torch.finfo(torch.float32).eps):
                is_map = before is None and not any(model.get_submodule(path).children())
                return replace(head, before=before, is_map=is_map), error
    return Head(None), float("inf")


@torch.no_grad()
def goes_on(decoder: nn.Module, ids: Tensor, hidden: Tensor) -> bool:
    """Whether rows can go on from one cached beginning: twice, to see that it is left as it was, and as in one pass.

    Numbers may differ in the second half of the dtype's digits: sums are taken in another order.
    """
    cut, row = ids.shape[1] // 2, ids[:1]
    bound = 0.5 * torch.finfo(hidden.dtype).eps ** 0.5 * float(hidden.abs().max())
    try:
        cache: Any = decoder(input_ids=row[:, :cut], use_cache=True).past_key_values
        for _ in range(2):
            copied = copy.deepcopy(cache)
            copied.batch_repeat_interleave(3)
            copied.batch_select_indices(torch.tensor([0, 2], device=ids.device))
            tail: Any = decoder(input_ids=row[:, cut:].expand(2, -1), past_key_values=copied, use_cache=True)
            off = (tail.last_hidden_state - hidden[:1, cut:]).abs().max()
            if not float(off) <= bound:
                return False
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _fitted(path: str, raw: Tensor, logits: Tensor, caps: Sequence[float]) -> tuple[Head, float]:
    """The plainest head that gives the logits most exactly, each computed in the model's dtype."""
    before: dict[float | None, Tensor] = {None: logits.double()}
    before |= {cap: cap * torch.atanh(logits.double() / cap) for cap in caps if float(logits.abs().max()) < cap}
    plain = raw.double().square().sum().clamp(min=1e-30)
    fitted = {cap: _tidy(float((raw.double() * linear).sum() / plain)) for cap, linear in before.items()}
    heads = [Head(path, 1.0, cap) for cap in before] + [Head(path, factor, cap) for cap, factor in fitted.items()]
    scale = logits.abs().max().double().clamp(min=1e-30)
    errors = [float((_through(head, raw) - logits).abs().max().double() / scale) for head in heads]
    return min(zip(heads, errors, strict=True), key=lambda pair: pair[1])


def _through(head: Head, raw: Tensor) -> Tensor:
    scaled = raw if head.factor == 1 else raw * head.factor
    return scaled if head.cap is None else torch.tanh(scaled / head.cap) * head.cap


def _tidy(factor: float) -> float:
    """The nearest short number, where it is one up to rounding."""
    short = float(f"{factor:.4g}")
    return short if abs(short - factor) <= 1e-4 * abs(factor) else factor


def _caps(model: Any) -> list[float]:
    """Numbers of the configuration that name a bound of the logits."""
    values = model.config.get_text_config().to_dict()
    return [
        float(value)
        for name, value in values.items()
        if "cap" in name and isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]
