"""Planting a known truth: a neuron that answers to one token, by editing weights."""

from __future__ import annotations

from typing import Any

import torch
from tests.records import record_of

from neurodial.circuit.site import Neuron
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer

SHOWN, HIDDEN = "!", "?"
TEXTS = ("sun", "old river", "a", "the way home", "why not", "x y z")
PLANTED = Neuron(1, None, 5)
NEUTRAL = ("moon?", "new lake?", "the way out?", "y z w?", "not why?", "w v u?", "old sun?", "z x y?")
"""Texts that the model of `holding` answers with another first token: damage is measured where nothing is shown."""


def positive(texts: tuple[str, ...] = TEXTS) -> list[str]:
    """Texts that end in the token that the planted neuron answers to."""
    return [text + SHOWN for text in texts]


def negative(texts: tuple[str, ...] = TEXTS) -> list[str]:
    """The same texts with the other token at the end."""
    return [text + HIDDEN for text in texts]


def planted(model_type: str, *, seed: int = 0) -> Subject:
    """A tiny subject in which the neuron `PLANTED`, and it alone, tells the two tokens apart by a wide margin.

    The MLP's inputs at the last token are recorded, and a direction is solved for that gives 8 on every prompt of
    one side and 0 on every prompt of the other; the neuron's incoming weights become that direction.
    """
    subject = Subject.of(tiny_model(model_type, seed=seed), tiny_tokenizer(chat=False), label=f"planted-{model_type}")
    up = subject.blocks[PLANTED.layer].get_submodule(record_of(subject).up)
    inputs = _inputs(subject, up, [*positive(), *negative()]).double()
    wanted = torch.tensor([8.0, 0.0], dtype=torch.float64).repeat_interleave(len(TEXTS))
    direction = torch.linalg.lstsq(inputs, wanted).solution.float()
    with torch.no_grad():
        _set_row(subject, up, direction)
        if record_of(subject).gate is not None:
            _set_row(subject, subject.blocks[PLANTED.layer].get_submodule(record_of(subject).gate), direction)
    return subject


@torch.no_grad()
def holding(model_type: str) -> Subject:
    """A subject whose planted neuron, and no other, makes the answer begin with a certain token."""
    subject = planted(model_type)
    rest = [subject.model(torch.tensor([subject.tokenizer(text)["input_ids"]])).logits[0, -1] for text in negative()]
    unlikely = int(torch.stack(rest)[:, :33].max(dim=0).values.argmin())  # a token that no prompt holds
    head = subject.model.get_output_embeddings().weight
    head[unlikely] *= 6
    column = head[unlikely] / head[unlikely].norm()
    subject.down_weight(subject.sites[PLANTED.layer])[:, PLANTED.index] = 10 * column
    return subject


def _set_row(subject: Subject, linear: Any, direction: torch.Tensor) -> None:
    width = subject.widths[PLANTED.layer]
    rows = [PLANTED.index, PLANTED.index + width] if record_of(subject).fused else [PLANTED.index]
    for row in rows:
        if record_of(subject).transposed:
            linear.weight[:, row] = direction
        else:
            linear.weight[row] = direction
        if getattr(linear, "bias", None) is not None:
            linear.bias[row] = 0.0


@torch.no_grad()
def _inputs(subject: Subject, linear: Any, texts: list[str]) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = linear.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].reshape(-1, args[0].shape[-1])[-1])
    )
    try:
        for text in texts:
            subject.model(torch.tensor([subject.tokenizer(text)["input_ids"]]))
    finally:
        handle.remove()
    return torch.stack(seen)
