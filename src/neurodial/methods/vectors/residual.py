"""Mean residual streams; their differences are the vectors of the residual-stream methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.errors import ActivationError
from neurodial.model.head import hidden_states, to_float64
from neurodial.model.hooks import Handle, installed, on_block_output, on_write
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens, check_context

Where = Literal["block", "mlp"]


@torch.no_grad()
def residual_means(
    subject: Subject,
    sequences: Sequence[Tokens],
    offsets: Sequence[int] = (-1,),
    *,
    where: Where = "block",
    budget: int = TOKEN_BUDGET,
) -> Float[Tensor, "offset layer hidden"]:
    """The mean over sequences of every block's output, at tokens counted from each sequence's end.

    Args:
        subject: the model.
        sequences: rendered prompts.
        offsets: -1 is the last token.
        where: `block`, the residual stream after each block; `mlp`, what each MLP writes.
        budget: tokens of one batch.

    Returns:
        Means in float64, on the CPU.

    Raises:
        ContextLengthError: a sequence is longer than the context.
        ActivationError: a sequence is too short for an offset, or a value is not finite.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> tuple(residual_means(tiny_subject(), [(1, 2, 3)], offsets=(-1, -2)).shape)
        (2, 2, 16)
    """
    check_context([len(sequence) for sequence in sequences], subject.context_length)
    shortest = min(len(sequence) for sequence in sequences)
    if shortest < -min(offsets):
        raise ActivationError(f"A prompt has {shortest} tokens.", wanted=f"at least {-min(offsets)}, to read that far")
    sums = torch.zeros(len(offsets), subject.layers, subject.hidden_size, dtype=torch.float64)
    current: list[Tensor] = []

    def reader(layer: int) -> Callable[[Tensor], None]:
        def read(hidden: Tensor) -> None:
            rows = torch.arange(hidden.shape[0], device=hidden.device)
            for number, places in enumerate(current):
                sums[number, layer] += to_float64(hidden[rows, places.to(hidden.device)]).sum(dim=0).cpu()

        return read

    def install(handles: list[Handle]) -> None:
        for layer in range(subject.layers):
            install_reader = on_block_output if where == "block" else _on_mlp
            handles.append(install_reader(subject, layer, reader(layer)))

    with installed(install):
        for batch in batches(list(sequences), pad=pad_id(subject), budget=budget):
            lengths = torch.tensor(batch.lengths)
            current[:] = [lengths + offset for offset in offsets]
            hidden_states(subject, batch.tokens)
    if not bool(torch.isfinite(sums).all()):
        raise ActivationError("The residual stream holds NaN or infinite values.", fix="Load with dtype float32.")
    return sums / len(sequences)


def _on_mlp(subject: Subject, layer: int, read: Callable[[Tensor], None]) -> Handle:
    return on_write(subject, layer, "mlp", read)
