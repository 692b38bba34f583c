"""Sampling a token: nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751) by one uniform number."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def nucleus(
    logits: Float[Tensor, "vocab"], top_p: float, *, top_k: int = 0, min_p: float = 0.0
) -> tuple[Float[Tensor, "kept"], Int[Tensor, "kept"]]:
    """The smallest set of tokens that has the probability `top_p`: probabilities and tokens, most probable first.

    The token that crosses `top_p` belongs to the set; the probabilities are those of the whole distribution, or of the
    `top_k` likeliest tokens where only those are used (0: all). Of the set, tokens of less than the share `min_p` of
    the likeliest one's probability are left out.

    Example:
        >>> probabilities, tokens = nucleus(torch.tensor([0.0, 9.0, 1.0]), 0.5)
        >>> tokens.tolist()
        [1]
    """
    ordered, tokens = logits.softmax(dim=-1).sort(descending=True, stable=True)
    if top_k:
        ordered = ordered[:top_k] / ordered[:top_k].sum()
    size = int((ordered.cumsum(dim=-1) < top_p).sum()) + 1
    size = min(size, int((ordered >= min_p * ordered[0]).sum()))
    return ordered[:size], tokens[:size]


def sampled(
    logits: Float[Tensor, "vocab"],
    temperature: float,
    top_p: float,
    generator: torch.Generator,
    *,
    top_k: int = 0,
    min_p: float = 0.0,
) -> int:
    """A token drawn at a temperature from the nucleus: one number, looked up in the cumulative distribution.

    Example:
        >>> sampled(torch.tensor([0.0, 9.0]), 1.0, 0.5, torch.Generator().manual_seed(0))
        1
    """
    probabilities, tokens = nucleus(logits.detach().cpu().double() / temperature, top_p, top_k=top_k, min_p=min_p)
    cumulative = probabilities.cumsum(dim=-1)
    drawn = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
    place = min(int((cumulative <= drawn).sum()), len(cumulative) - 1)
    return int(tokens[place])
