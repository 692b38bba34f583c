"""How many tokens go through a model at once when a backward pass follows, which needs every layer's activations.

On a CPU the number is fixed: such a batch fits into the CPU's caches. On an accelerator, small batches leave it idle
between kernels, and large ones fill its memory: the number is what fits into half of the free memory, by an estimate of
the memory for a token.
Without a backward pass the number is fixed on every device: a few thousand tokens keep an accelerator busy, and larger
batches only add padding.
"""

from __future__ import annotations

import torch

from neurodial.model.subject import Subject

_VISITED = 8
MOST = 16
"""The largest multiple of the usual number."""


def micro_batch_tokens(subject: Subject, usual: int) -> int:
    """Tokens of one micro-batch of a backward pass, padding included.

    Args:
        subject: the model.
        usual: the number on a CPU, and where the free memory is not known.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> micro_batch_tokens(tiny_subject(), 1024)
        1024
    """
    if subject.device.type != "cuda":
        return usual
    return max(1, min(MOST * usual, free_bytes(subject.device) // 2 // bytes_per_token(subject)))


def bytes_per_token(subject: Subject) -> int:
    """Estimated memory for a token: every block's activations, and one byte for each logit, since few are computed.

    A block holds about four tensors of its MLP's width and twelve of the residual stream's. Of routed experts, as many
    are counted as a token goes to in most models.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> bytes_per_token(tiny_subject())
        2564
    """
    routed = sum(min(number, _VISITED) * width for number, width in (site.shape for _, site in subject.layout.experts))
    widths = sum(subject.widths) + routed
    blocks = (4 * widths + 12 * subject.layers * subject.hidden_size) * subject.dtype.itemsize
    return blocks + int(subject.model.config.get_text_config().vocab_size)


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that is free, or that torch has reserved and not yet used."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
