"""The law of the bounds: whatever a line was scaled by and rounded to, the true multiplier lies between them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurodial.edits.bounds import multipliers
from neurodial.edits.stored import StoredTensor, half_spacing
from neurodial.export.tensors import DTYPES

NUMBERS = st.floats(-4, 4).filter(lambda value: value == 0 or abs(value) > 1e-6)


def lines(seed, rows=5, columns=64, size=0.3):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def quantised(values, kind):
    """Numbers as a file of that type holds them, and how far rounding may have moved them."""
    content = gguf.quantize(values.numpy().astype(np.float32), gguf.GGMLQuantizationType[kind])
    rows = values.shape[0]
    tensor = StoredTensor("w", kind, tuple(values.shape), Path("w"), 0, content.nbytes // rows)
    numbers = tensor.numbers(content.tobytes())
    return numbers, tensor.rounding(content.tobytes(), numbers)


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
@given(multiplier=NUMBERS, seed=st.integers(0, 50))
def test_the_multiplier_lies_between_the_bounds_in_every_plain_type(kind, multiplier, seed):
    base = lines(seed).to(DTYPES[kind]).double()
    after = (multiplier * base).to(DTYPES[kind]).double()
    bounds = multipliers(base, after, half_spacing(after, kind) * (1 + 2**-10), None, 1)
    assert bool((bounds.low <= multiplier).all() and (bounds.high >= multiplier).all())
    widths = bounds.high - bounds.low
    eps = torch.finfo(DTYPES[kind]).eps
    smallest = torch.finfo(DTYPES[kind]).smallest_normal * eps  # a number too small for the type says nothing
    arithmetic = abs(multiplier) * 2**-48
    assert bool((widths <= eps * abs(multiplier) + 10 * smallest + arithmetic).all())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("size", [0.3, 1e-3, 1e-6])
@given(multiplier=NUMBERS, seed=st.integers(0, 20))
def test_it_does_after_quantisation_of_both_or_of_one(kind, size, multiplier, seed):
    """1e-3 and 1e-6: scales of blocks that are no normal numbers of fp16, or none at all."""
    true = lines(seed, size=size).float().double()
    base, base_error = quantised(true, kind)
    after, error = quantised(multiplier * true, kind)
    both = multipliers(base, after, error, base_error, 1)
    one = multipliers(true, after, error, None, 1)
    for bounds in (both, one):
        assert bool((bounds.low <= multiplier).all() and (bounds.high >= multiplier).all())


def test_quantisation_moves_no_number_farther_than_stated_and_some_nearly_so_far():
    for kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        true = lines(3, rows=40).float().double()
        numbers, error = quantised(true, kind)
        moved = (numbers - true).abs() / error
        assert float(moved.max()) <= 1, kind
        assert float(moved.max()) > 0.8, kind


def test_a_column_of_another_direction_has_no_multiplier():
    base, other = lines(0), lines(1)
    bounds = multipliers(base, other, half_spacing(other, "BF16"), None, 1)
    assert not bool(bounds.explained.any())
    both = multipliers(base, other, half_spacing(other, "BF16"), half_spacing(base, "BF16"), 1)
    assert not bool(both.explained.any())


def test_a_zero_says_nothing_and_what_comes_of_zero_rules_a_scaling_out():
    base = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    after = torch.tensor([[0.0, 0.5], [0.1, 0.5], [0.0, 0.0]], dtype=torch.float64)
    bounds = multipliers(base, after, half_spacing(after, "F32"), None, 1)
    assert bounds.explained.tolist() == [True, False, True]
    assert bounds.scaled.tolist() == [True, False, False]
