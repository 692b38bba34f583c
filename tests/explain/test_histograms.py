"""Histograms of unknown range lose no count, and areas under their curves lie within what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurodial.explain.histograms import BINS, Histograms
from neurodial.methods.cna.contrastive import auroc


@given(seed=st.integers(0, 1000), size=st.sampled_from([1e-9, 1e-3, 1.0, 1e5]))
def test_no_count_is_lost_however_the_range_grows(seed, size):
    generator = torch.Generator().manual_seed(seed)
    histograms = Histograms.empty(2, 2)
    values, sides = [], []
    for step in range(6):
        batch = size * 10.0 ** (step - 3) * torch.randn(7, 2, generator=generator)
        side = torch.randint(2, (7,), generator=generator)
        histograms.add(batch, side)
        values.append(batch)
        sides.append(side)
    every, of_side = torch.cat(values).double(), torch.cat(sides)
    assert histograms.counts.sum(dim=2)[0].tolist() == [int((of_side == k).sum()) for k in (0, 1)]
    assert bool((every.abs().amax(dim=0) < histograms.reach).all())
    for channel in (0, 1):
        reach = float(histograms.reach[channel])
        edges = np.linspace(-reach, reach, BINS + 1)
        wanted = np.histogram(every[of_side == 0, channel].numpy(), edges)[0]
        assert histograms.counts[channel, 0].tolist() == wanted.tolist()


@given(seed=st.integers(0, 300), shift=st.floats(-3, 3))
def test_the_area_lies_within_its_stated_error_of_the_exact_one(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    positive, negative = torch.randn(40, 3, generator=generator) + shift, torch.randn(30, 3, generator=generator)
    histograms = Histograms.empty(3, 3)
    for start in range(0, 40, 7):
        rows = torch.cat([positive[start : start + 7], negative[start : start + 7]])
        sides = [0] * len(positive[start : start + 7]) + [1] * len(negative[start : start + 7])
        histograms.add(rows, torch.tensor(sides))
    area, error = histograms.auroc(0, 1)
    exact = auroc(positive, negative) + 0.5
    assert bool(((area - exact).abs() <= error + 1e-12).all())
    assert float(error.max()) < 0.05


def test_a_side_without_texts_has_no_area():
    histograms = Histograms.empty(1, 3)
    histograms.add(torch.tensor([[1.0]]), torch.tensor([0]))
    assert bool(torch.isnan(histograms.auroc(0, 1)[0]).all())


@pytest.mark.parametrize("bins", [8, 32])
def test_what_is_shown_holds_every_count_in_order(bins):
    histograms = Histograms.empty(1, 2)
    values = torch.linspace(-0.3, 5, 100)[:, None]
    histograms.add(values, torch.arange(100) % 2)
    edges, counts = histograms.shown(0, bins)
    assert [sum(side) for side in counts] == [50, 50]
    assert len(edges) == len(counts[0]) + 1 <= bins + 2
    assert edges[0] <= -0.3
    assert edges[-1] >= 5
