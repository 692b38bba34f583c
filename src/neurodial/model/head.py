"""From the decoder's output to logits; run separately by passes that need few logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.model.plain_weight import is_plain
from neurodial.model.subject import Subject

Sample = Callable[[Float[Tensor, "cell vocab"]], Sequence[Int[Tensor, "cell"]]]
"""Labels of one or more draws, from probabilities."""


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
    raw, cap = raw_logits(subject, hidden), soft_cap(subject)
    return raw if cap is None else torch.tanh(raw / cap) * cap


def raw_logits(subject: Subject, hidden: Float[Tensor, "*cell hidden"]) -> Float[Tensor, "*cell vocab"]:
    """The logits of a decoder's outputs, before the soft cap that some models put on them."""
    raw: Tensor = subject.head(hidden)
    factor = subject.layout.head.factor
    return raw if factor == 1 else raw * factor


def soft_cap(subject: Subject) -> float | None:
    """The bound `c` of final logits `c * tanh(logit / c)`, or None."""
    return subject.layout.head.cap


def log_probs(subject: Subject, hidden: Float[Tensor, "*cell hidden"]) -> Float[Tensor, "*cell vocab"]:
    """Log-probabilities over the vocabulary, in float32, or in float64 where the model is."""
    raw = logits(subject, hidden)
    return raw.to(at_least_float32(raw.dtype)).log_softmax(dim=-1)


def label_gradients(
    subject: Subject,
    hidden: Float[Tensor, "cell hidden"],
    sample: Sample,
) -> list[Float[Tensor, "cell hidden"]]:
    """The gradients of labels' log-likelihoods in a decoder's outputs, for several draws of labels.

    For a label y that is `c_y W_y - sum over v of p_v c_v W_v`, with W the unembedding, p the probabilities and c 1, or
    the slope of the cap on the logits. The sum is the same for all draws and taken once.

    Args:
        subject: the model.
        hidden: outputs of the decoder, after the final norm.
        sample: the labels of each draw, from the probabilities.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [gradient] = label_gradients(tiny_subject(), torch.zeros(2, 16), lambda table: [table.argmax(dim=1)])
        >>> tuple(gradient.shape)
        (2, 16)
    """
    weight = _unembedding(subject)
    if weight is None or weight.device != hidden.device:
        return _label_gradients_by_autograd(subject, hidden, sample)
    with torch.no_grad():
        capped, cap = logits(subject, hidden), soft_cap(subject)
        slope = None if cap is None else 1 - (capped / cap).square()
        table = capped.to(at_least_float32(capped.dtype)).log_softmax(dim=-1).exp()
        pulled = table if slope is None else table * slope
        common = pulled.to(weight.dtype) @ weight
        gradients = []
        for labels in sample(table):
            towards = weight[labels] if slope is None else weight[labels] * slope.gather(1, labels[:, None])
            gradients.append((towards - common).to(hidden.dtype))
        return gradients


def _label_gradients_by_autograd(
    subject: Subject,
    hidden: Float[Tensor, "cell hidden"],
    sample: Sample,
) -> list[Float[Tensor, "cell hidden"]]:
    """The same for any last layer, with a pass back through it for each draw."""
    with torch.enable_grad():
        inputs = hidden.detach().requires_grad_(True)
        table = log_probs(subject, inputs)
        drawn = sample(table.detach().exp())
        likelihoods = [table.gather(1, labels[:, None]).sum() for labels in drawn]
        return [torch.autograd.grad(likelihood, inputs, retain_graph=True)[0] for likelihood in likelihoods]


def _unembedding(subject: Subject) -> Float[Tensor, "vocab hidden"] | None:
    """The last layer's weight, if the layer is nothing more than it and the weight is readable; else None."""
    layer = subject.head
    changed = hasattr(layer, "_hf_hook") or bool(layer._forward_hooks)
    if type(layer) is not torch.nn.Linear or changed or not is_plain(layer.weight):
        return None
    weight = layer.weight.detach()
    return weight if subject.layout.head.factor == 1 else weight * subject.layout.head.factor


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
