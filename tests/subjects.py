"""Tiny subjects that many tests share, and what a test must leave them as.

The subjects are made once per process. The fixture `shared_subjects_are_given_back` compares every one that exists with
what it was, after each test.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.model.subject import Subject
from neurodial.model.tiny import TINY_FAMILIES, tiny_model, tiny_subject, tiny_tokenizer

torch.set_num_threads(1)  # the models are so small that a second thread only costs

FAMILIES = TINY_FAMILIES
SOME_FAMILIES = ("llama", "gemma3_text", "phi3", "gpt2", "gpt_neox", "opt")
"""One of each layout: plain, post-normed with a sliding window, fused, transposed, parallel, flattened."""

WINDOW = 12
SLIDING: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "gemma2": {"sliding_window": WINDOW},
    "gemma3_text": {"sliding_window": WINDOW},
}
"""Families whose attention can look back only so far, and the settings that make it so."""

_shared: dict[Any, tuple[Subject, dict[str, Any]]] = {}


def shared(model_type: str = "llama") -> Subject:
    """The tiny subject of a family that every test of this process uses."""
    return _remembered(model_type, lambda: tiny_subject(model_type))


def sliding(model_type: str) -> Subject:
    """The same with a sliding window of `WINDOW` tokens in at least one layer."""
    return _remembered(("sliding", model_type), lambda: tiny_subject(model_type, **SLIDING[model_type]))


def _remembered(key: Any, make: Any) -> Subject:
    if key not in _shared:
        subject = make()
        _shared[key] = (subject, snapshot(subject.model))
    return _shared[key][0]


@pytest.fixture(autouse=True)
def shared_subjects_are_given_back():
    yield
    for key, (subject, before) in _shared.items():
        assert differences(before, snapshot(subject.model)) == [], key


def snapshot(model: torch.nn.Module) -> dict[str, Any]:
    """Everything about a model that steering must give back: weights, hooks, attributes, configuration, mode."""
    found: dict[str, Any] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found[f"tensor {name}"] = tensor.detach().clone()
        found[f"place {name}"] = (id(tensor), tensor.data_ptr(), tensor.requires_grad, tensor.grad is None)
    for name, module in model.named_modules():
        found[f"mode {name}"] = module.training
        found[f"attributes {name}"] = sorted(vars(module))
        for key, value in vars(module).items():
            if "hooks" in key:
                found[f"{key} {name}"] = list(value.items()) if isinstance(value, dict) else value
    found["config"] = settled(model.config.to_dict())
    generation = getattr(model, "generation_config", None)
    found["generation"] = None if generation is None else settled(generation.to_dict())
    return found


def settled(value: Any) -> Any:
    """Nested settings as something that can be compared later."""
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items()}
    return repr(value)


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The entries that differ between two snapshots, bit for bit."""
    found = sorted(before.keys() ^ after.keys())
    for key in before.keys() & after.keys():
        first, second = before[key], after[key]
        same = same_bits(first, second) if isinstance(first, torch.Tensor) else first == second
        if not same:
            found.append(key)
    return found


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit: NaN equals itself, 0 is not -0."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8))


def circuit_of(subject: Subject, count: int = 6, *, dose: float = 1.0, known: bool = True) -> Circuit:
    """A circuit of `count` neurons spread over the layers; the strongest ones that a model of random weights has."""
    from neurodial.circuit.circuit import Origin

    generator = torch.Generator().manual_seed(count)
    rows = []
    for number in range(count):
        layer = number % subject.layers
        index = (number * 7 + 3) % subject.widths[layer]
        score = float(torch.randn((), generator=generator))
        rows.append(Row(Neuron(layer, None, index), score, dose))
    return Circuit.of(rows, origin=Origin(model=subject.identity if known else None))


def tokens_of(subject: Subject, texts: Iterable[str] = ("abcdefgh",)) -> list[list[int]]:
    """Token ids of texts, without the chat template."""
    return [subject.tokenizer(text)["input_ids"] for text in texts]


def pad(rows: Sequence[Sequence[int]], side: str, filling: int = 258) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one tensor padded on a side, and its attention mask."""
    longest = max(map(len, rows))
    gaps = [longest - len(row) for row in rows]
    if side == "left":
        ids = [[filling] * gap + list(row) for gap, row in zip(gaps, rows, strict=True)]
        mask = [[0] * gap + [1] * len(row) for gap, row in zip(gaps, rows, strict=True)]
    else:
        ids = [list(row) + [filling] * gap for gap, row in zip(gaps, rows, strict=True)]
        mask = [[1] * len(row) + [0] * gap for gap, row in zip(gaps, rows, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


@torch.no_grad()
def logits(subject: Subject, row: Sequence[int]) -> torch.Tensor:
    """Logits (token, vocab) of one sequence, in one pass."""
    return subject.model(torch.tensor([list(row)])).logits[0]


@torch.no_grad()
def batch_logits(subject: Subject, rows: Sequence[Sequence[int]], side: str = "right") -> list[torch.Tensor]:
    """Logits (token, vocab) of each row of one padded batch, padding left out."""
    ids, mask = pad(rows, side)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    takes = inspect.signature(subject.model.forward).parameters
    options = {"position_ids": places} if "position_ids" in takes else {}
    found = subject.model(ids, attention_mask=mask, **options).logits
    return [row[kept.bool()] for row, kept in zip(found, mask, strict=True)]


@torch.no_grad()
def cached_logits(subject: Subject, row: Sequence[int], start: int) -> torch.Tensor:
    """Logits (token, vocab) of one sequence: its first `start` tokens in one pass, the others one by one."""
    step = subject.model(torch.tensor([list(row[:start])]), use_cache=True)
    parts = [step.logits[0]]
    for token in row[start:]:
        step = subject.model(torch.tensor([[token]]), past_key_values=step.past_key_values, use_cache=True)
        parts.append(step.logits[0])
    return torch.cat(parts)


def close(first: torch.Tensor, second: torch.Tensor, *, steps: float = 64.0) -> None:
    """Assert equality up to the order in which float32 sums are taken.

    Batched and single passes use other kernels, so sums are taken in another order. `steps` counts units in the last
    place of the largest number involved; a wrong token, row or dial is off by a hundred thousand of them.
    """
    scale = float(torch.maximum(first.abs().max(), second.abs().max()))
    bound = steps * torch.finfo(first.dtype).eps * max(scale, 1.0)
    worst = float((first.double() - second.double()).abs().max())
    assert worst <= bound, f"differ by {worst:.3g}, allowed {bound:.3g}"


def differ(first: torch.Tensor, second: torch.Tensor, *, by: float = 1e-2) -> None:
    """Assert that two tensors really differ: the opposite of `close`, with room between."""
    worst = float((first.double() - second.double()).abs().max())
    assert worst > by, f"differ by only {worst:.3g}"


@cache
def prompts(count: int = 6) -> tuple[str, ...]:
    """Short texts of different lengths."""
    words = ("sun", "rivers", "a", "old stones", "the long way home", "pear", "why not", "x y z", "winter", "on")
    return tuple(f"{words[number % len(words)]} {number}" for number in range(count))


def fresh(model_type: str = "llama", *, seed: int = 0, **config: Any) -> Subject:
    """A subject of the test's own, whose weights it may change."""
    return Subject.of(tiny_model(model_type, seed=seed, **config), tiny_tokenizer(), label=f"tiny-{model_type}")
