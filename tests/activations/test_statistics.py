"""Streamed statistics against the same sums over everything at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodial.activations.statistics import GroupedMoments
from neurodial.circuit.site import Site

SITE = Site(0)


def streamed(values, groups, count, cuts):
    moments = GroupedMoments(groups, count)
    order = list(range(len(groups)))
    for start, stop in zip([0, *cuts], [*cuts, len(order)], strict=True):
        if stop > start:
            moments.add(SITE, values[start:stop], tuple(order[start:stop]))
    return moments


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_batches_give_the_statistics_of_all(data):
    prompts = data.draw(st.integers(1, 30))
    count = data.draw(st.integers(1, 4))
    groups = data.draw(st.lists(st.integers(0, count - 1), min_size=prompts, max_size=prompts))
    cuts = sorted(data.draw(st.sets(st.integers(1, prompts))))
    chosen = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
    offset = data.draw(st.sampled_from([0.0, 1e3]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    values = torch.randn(prompts, 3, generator=generator) + offset
    found = streamed(values, groups, count, cuts).moments(SITE, chosen)
    part = values.double().numpy()[[group in chosen for group in groups]]
    assert found.count == len(part)
    if len(part):
        np.testing.assert_allclose(found.mean.numpy(), part.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.squares.numpy(), part.var(axis=0) * len(part), rtol=1e-9, atol=1e-9)


def test_a_large_mean_does_not_drown_a_small_deviation():
    """The textbook sum of squares loses everything here: 1e8 squared has no room for 1e-2 squared."""
    values = 1e8 + torch.tensor([[0.0], [1e-2], [2e-2]], dtype=torch.float64)
    exact = float(values.var(dim=0))
    found = streamed(values, [0, 0, 0], 1, [1, 2]).moments(SITE, [0])
    assert float(found.squares) / 2 == pytest.approx(exact, rel=1e-6)
    textbook = float((values.square().mean() - values.mean().square()) * 3 / 2)
    assert textbook != pytest.approx(exact, rel=1e-1)


def test_single_precision_is_summed_in_double():
    values = torch.tensor([[1e8], [1.0], [-1e8]], dtype=torch.float32)
    assert float(values.sum()) != 1.0
    assert float(streamed(values, [0, 0, 0], 1, []).moments(SITE, [0]).mean * 3) == 1.0


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


@pytest.mark.parametrize("prompts", [100, 2000])
def test_memory_does_not_grow_with_the_prompts(prompts):
    groups = [number % 20 for number in range(prompts)]
    moments = GroupedMoments(groups, 20)
    for start in range(0, prompts, 50):
        rows = tuple(range(start, start + 50))
        for layer in range(3):
            moments.add(Site(layer), torch.ones(50, 64), rows)
    kept = [tensor for tensor in tensors_in(vars(moments)) if tensor.is_floating_point()]
    statistics, latest_batch = 3 * 8 * (20 + 2 * 20 * 64), 8 * 20 * (50 + 2)
    assert sum(tensor.nbytes for tensor in kept) == statistics + latest_batch
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in kept)
