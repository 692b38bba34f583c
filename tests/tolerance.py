"""How far two computations of the same thing may lie apart, from the rounding of the arithmetic.

Each operation rounds within half a unit in the last place, u = eps / 2, about evenly: a standard deviation of
u / sqrt(3) of the size of what is rounded. A chain of `terms` roundings adds their squares, and so do two computations
whose sums are taken in another order. Four standard deviations: the largest of ten thousand cells lies within.

What must be told apart (another row, token, dial or dose) is a hundred times farther; tests of that stand beside.
`test_tolerance.py` holds the bound against twins in float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from tests.records import record_of

from neurodial.model.subject import Subject

DEVIATIONS = 4.0
TOKENS = 64
"""As long as a sequence of these tests is, unless one says more."""


def rounding(size: float, terms: int, dtype: torch.dtype = torch.float32) -> float:
    """What two chains of `terms` roundings of numbers up to `size` may differ by."""
    return DEVIATIONS * math.sqrt(2 * terms / 3) * torch.finfo(dtype).eps / 2 * size


def chain(subject: Subject, tokens: int = TOKENS) -> int:
    """Terms that one path through the model adds up, from the embedding to a neuron or a logit.

    In each block: two norms, queries, scores, the softmax over the tokens and the mix of their values, what attention
    writes, up and gate, down, and the two sums of the residual stream; at the end a norm and the head.
    """
    hidden, width = subject.hidden_size, max(subject.widths)
    block = 2 * hidden + hidden + hidden + 2 * tokens + hidden + hidden + width + 2
    return subject.layers * block + 2 * hidden


def logit_size(subject: Subject) -> float:
    """A bound of the model's logits: the longest row of the head times the longest normed stream."""
    head = subject.model.get_output_embeddings()
    gain = float(subject.decoder.get_submodule(record_of(subject).final_norm).weight.detach().abs().max())
    largest = gain + (1.0 if record_of(subject).norm == "rms_plus_one" else 0.0)
    return float(head.weight.detach().norm(dim=1).max()) * largest * math.sqrt(subject.hidden_size)


def of_activations(subject: Subject, values: Any, tokens: int = TOKENS) -> float:
    """For activations or differences of their means: `values` says how large they are."""
    size = float(torch.as_tensor(values).abs().max())
    return rounding(size, chain(subject, tokens))


def of_log_probs(subject: Subject, tokens: int = TOKENS) -> float:
    """For log-probabilities, and so for probabilities up to 1: a logit less the logarithm of a sum that holds it."""
    return math.sqrt(2) * rounding(logit_size(subject), chain(subject, tokens))


def of_margins(subject: Subject, tokens: int = TOKENS, predictions: int = 1) -> float:
    """For differences of log-probabilities, divergences too, that are summed over some predictions."""
    return math.sqrt(2 * predictions) * of_log_probs(subject, tokens)
