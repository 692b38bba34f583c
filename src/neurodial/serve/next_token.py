"""The next token of each row.

1. Greedy rows take the likeliest token, as `generate` does.
2. A sampled row draws one uniform number from its own generator and looks it up in the cumulative distribution of its
   own logits, so neither the other rows nor their number change what a seed gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.generation.sampling import sampled
from neurodial.model.head import at_least_float32
from neurodial.serve.request import Request, Scored


def generator_of(request: Request) -> torch.Generator | None:
    """A request's own source of random numbers; None where it is greedy."""
    if request.temperature == 0:
        return None
    generator = torch.Generator()
    if request.seed is None:
        generator.seed()
    else:
        generator.manual_seed(request.seed)
    return generator


def next_tokens(
    logits: Float[Tensor, "row vocab"], requests: Sequence[Request], generators: Sequence[torch.Generator | None]
) -> list[int]:
    """One token for each row."""
    chosen: list[int] = logits.argmax(dim=-1).tolist()  # 1
    for row, (request, generator) in enumerate(zip(requests, generators, strict=True)):
        if generator is not None:
            chosen[row] = sampled(
                logits[row],
                request.temperature,
                request.top_p,
                generator,
                top_k=request.top_k,
                min_p=request.min_p,
            )
    return chosen


def scored(logits: Float[Tensor, "token vocab"], tokens: Sequence[int], top: int) -> tuple[Scored, ...]:
    """Log-probabilities of tokens and of the likeliest ones at their places, before temperature and top_p."""
    log_probs = logits.to(at_least_float32(logits.dtype)).log_softmax(dim=-1)
    own = log_probs.gather(-1, torch.tensor(list(tokens), device=logits.device)[:, None])[:, 0].tolist()
    best = log_probs.topk(top, dim=-1)
    likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(
        Scored(token, value, tuple(zip(*pair, strict=True)))
        for token, value, pair in zip(tokens, own, likeliest, strict=True)
    )
