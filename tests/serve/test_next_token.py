"""Sampling: the frequencies are the probabilities, and top_p keeps the smallest set that has it."""

import pytest
import torch
from scipy.stats import chisquare

from neurodial.generation.sampling import sampled
from neurodial.serve.next_token import generator_of, next_tokens, scored
from neurodial.serve.request import Request

LOGITS = torch.tensor([1.0, 3.0, -2.0, 2.0, 0.5])
DRAWS = 1500


def drawn(temperature=1.0, top_p=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [sampled(LOGITS, temperature, top_p, generator) for _ in range(DRAWS)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_probabilities(temperature):
    counts = torch.bincount(torch.tensor(drawn(temperature)), minlength=5)
    expected = (LOGITS.double() / temperature).softmax(dim=-1) * DRAWS
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3
    flat = torch.full((5,), DRAWS / 5)
    assert chisquare(counts.numpy(), flat.numpy()).pvalue < 1e-6


@pytest.mark.parametrize(("top_p", "kept"), [(1.0, {0, 1, 2, 3, 4}), (0.95, {0, 1, 3, 4}), (0.7, {1, 3}), (1e-9, {1})])
def test_top_p_keeps_the_smallest_set_with_its_probability(top_p, kept):
    """The probabilities are 0.62 (token 1), 0.23 (3), 0.084 (0), 0.051 (4), 0.004 (2)."""
    assert set(drawn(top_p=top_p)) == kept


def test_greedy_rows_take_the_likeliest_and_draw_nothing():
    rows = [Request((1,)), Request((1,), temperature=1.0, seed=5), Request((1,))]
    tokens = next_tokens(LOGITS.expand(3, -1), rows, [generator_of(row) for row in rows])
    assert tokens[0] == tokens[2] == 1
    assert generator_of(rows[0]) is None
    assert tokens[1] == next_tokens(LOGITS[None], rows[1:2], [generator_of(rows[1])])[0]


def test_scores_are_before_temperature():
    [entry] = scored(LOGITS[None], [3], 2)
    expected = LOGITS.log_softmax(dim=-1)
    assert entry.log_prob == pytest.approx(float(expected[3]))
    assert [token for token, _ in entry.top] == [1, 3]
