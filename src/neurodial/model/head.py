"""From the decoder's output to logits: the part of a model that passes which need few logits run by themselves."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.model.subject import Subject


def hidden_states(subject: Subject, tokens: Int[Tensor, "row token"]) -> Float[Tensor, "row token hidden"]:
    """The decoder's output, after the final norm. Rows are padded on the right, so no mask is needed.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> tuple(hidden_states(tiny_subject(), torch.tensor([[1, 2, 3]])).shape)
        (1, 3, 16)
    """
    output: Any = subject.decoder(input_ids=tokens.to(subject.device), use_cache=False)
    hidden: Tensor = output.last_hidden_state
    return hidden


def logits(subject: Subject, hidden: Float[Tensor, "*cell hidden"]) -> Float[Tensor, "*cell vocab"]:
    """The logits of a decoder's outputs, as the model itself computes them, in its dtype."""
    config = subject.model.config.get_text_config()
    raw: Tensor = subject.model.get_output_embeddings()(hidden)
    cap = getattr(config, "final_logit_softcapping", None)
    return raw if cap is None else torch.tanh(raw / cap) * cap


def log_probs(subject: Subject, hidden: Float[Tensor, "*cell hidden"]) -> Float[Tensor, "*cell vocab"]:
    """Log-probabilities over the vocabulary, in float32, or in float64 where the model is."""
    raw = logits(subject, hidden)
    return raw.to(at_least_float32(raw.dtype)).log_softmax(dim=-1)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself where it is float32 or float64, else float32.

    Example:
        >>> at_least_float32(torch.bfloat16)
        torch.float32
    """
    return torch.promote_types(dtype, torch.float32)


def to_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, on the CPU where its device has no float64; gradients pass through."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
