"""How many tokens go through a model at once when a backward pass follows, which needs every layer's activations.

On a processor a fixed number: it fits into the processor's caches. On an accelerator small batches leave it waiting
for the next kernel, and large ones fill its memory: as many as fit into half of what is free, by an estimate of what a
token takes.
Passes without a backward pass take a fixed number everywhere: a few thousand tokens keep a card busy, and larger
batches only hold more padding.
"""

from __future__ import annotations

import torch

from neurodial.model.subject import Subject

MOST = 16
"""How many times the usual number at most."""


def micro_batch_tokens(subject: Subject, usual: int) -> int:
    """Tokens of one micro-batch of a backward pass, padding included.

    Args:
        subject: the model.
        usual: the number on a processor, and where free memory can't be asked for.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> micro_batch_tokens(tiny_subject(), 1024)
        1024
    """
    if subject.device.type != "cuda":
        return usual
    return max(1, min(MOST * usual, free_bytes(subject.device) // 2 // bytes_per_token(subject)))


def bytes_per_token(subject: Subject) -> int:
    """About what a token takes: every block's activations, and a byte for each of its logits, as few are made.

    A block holds about four tensors of its MLP's width and twelve of the residual stream's.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> bytes_per_token(tiny_subject())
        2564
    """
    blocks = sum((4 * width + 12 * subject.hidden_size) * subject.dtype.itemsize for width in subject.widths)
    return blocks + int(subject.model.config.get_text_config().vocab_size)


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that is free, or that torch holds and has not given out."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
