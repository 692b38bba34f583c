"""Contrastive scores (CNA, arXiv 2605.12290, section 3).

1. `delta_j = mean over P+ of a_j - mean over P- of a_j`, a_j the activation at the position read.
2. As options: delta over the pooled standard deviation; the AUROC of a_j minus one half.

We accumulate in float64; the public code rounds to bfloat16, which `as_published` reproduces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.statistics import GroupedMoments, Moments
from neurodial.circuit.site import Site
from neurodial.methods.cna.options import Score
from neurodial.methods.scores import Scores

_DEVIATION_FLOOR = 1e-6


def delta_scores(
    moments: GroupedMoments, sites: Sequence[Site], positive: Sequence[int], negative: Sequence[int], *, score: Score
) -> Scores:
    """Delta or standardised scores of the given groups of prompts."""
    if score == "delta":
        return Scores({site: moments.mean(site, positive) - moments.mean(site, negative) for site in sites})
    pairs = {site: (moments.moments(site, positive), moments.moments(site, negative)) for site in sites}
    return Scores({site: _standardised(*pair) for site, pair in pairs.items()})


def auroc(
    positive: Float[Tensor, "positive neuron"], negative: Float[Tensor, "negative neuron"]
) -> Float[Tensor, "neuron"]:
    """Area under the ROC curve of each neuron, ties counted as one half, minus one half: 0 is chance.

    Example:
        >>> auroc(torch.tensor([[2.0], [3.0]]), torch.tensor([[1.0], [2.0]]))
        tensor([0.3750], dtype=torch.float64)
    """
    ordered = negative.T.contiguous().sort(dim=1).values
    values = positive.T.contiguous()
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    wins = (below + not_above).to(torch.float64).mean(dim=1) / 2
    return wins / negative.shape[0] - 0.5


def _standardised(positive: Moments, negative: Moments) -> Tensor:
    """Cohen's d with a floor, so that a neuron that hardly varies gets no large score from a division by nearly 0."""
    freedom = max(1.0, positive.count + negative.count - 2)
    deviation = ((positive.squares + negative.squares) / freedom).sqrt()
    floor = (_DEVIATION_FLOOR + deviation.median() * 1e-2) if deviation.numel() else _DEVIATION_FLOOR
    return (positive.mean - negative.mean) / (deviation + floor)
