"""Random circuits to compare with."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.circuit.strategies import ALL_NEURONS, MODEL, WIDTHS, circuits

from neurodial.circuit.circuit import Circuit, Origin, Row, Stability
from neurodial.circuit.controls import random_control
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError

SEEDS = st.integers(0, 1000)
WIDE = dataclasses.replace(MODEL, widths=(50, 30, 80))
FOUND = Circuit.of(
    [Row(Neuron(layer, None, index), 1.0, index / 10) for layer in range(3) for index in range(4)],
    name="refusal",
    direction="induce",
    origin=Origin(model=WIDE, method={"kind": "CNA"}, prompts={"hash": "x"}, universal={"flagged": 1}),
    stability=Stability((1.0,), (1.0,) * 12),
)


def layers(circuit: Circuit) -> Counter[int]:
    return Counter(row.neuron.layer for row in circuit)


@given(found=circuits(least=1, most=len(ALL_NEURONS) // 2), seed=SEEDS)
def test_a_control_has_the_size_and_none_of_the_neurons(found, seed):
    control = random_control(found, seed=seed)
    assert len(control) == len(found)
    assert not control.neurons & found.neurons
    assert control.neurons <= set(ALL_NEURONS)


@given(found=circuits(least=1), seed=SEEDS)
def test_a_layer_matched_control_has_the_count_of_every_layer(found, seed):
    if any(count > WIDTHS[layer] - count for layer, count in layers(found).items()):
        with pytest.raises(CircuitError, match="too few neurons"):
            random_control(found, seed=seed, match="layer")
        return
    control = random_control(found, seed=seed, match="layer")
    assert layers(control) == layers(found)
    assert not control.neurons & found.neurons
    assert control.neurons <= set(ALL_NEURONS)


@given(found=circuits(least=1, most=len(ALL_NEURONS) // 2), seed=SEEDS)
def test_a_control_has_the_doses_of_the_circuit(found, seed):
    assert sorted(row.dose for row in random_control(found, seed=seed)) == sorted(row.dose for row in found)


@pytest.mark.parametrize("match", ["global", "layer"])
def test_the_seed_decides(match):
    assert random_control(FOUND, seed=1, match=match) == random_control(FOUND, seed=1, match=match)
    controls = [random_control(FOUND, seed=seed, match=match) for seed in range(20)]
    assert len({control.neurons for control in controls}) == 20
    assert len({tuple(row.dose for row in control) for control in controls}) > 1, "doses are dealt at random, too"


def test_doses_do_not_keep_to_the_layers():
    """Else a layer-matched control would share with the circuit what it is to be compared with."""
    by_layer = Circuit.of([row._replace(dose=float(row.neuron.layer)) for row in FOUND], origin=FOUND.origin)
    controls = [random_control(by_layer, seed=seed, match="layer") for seed in range(20)]
    assert any(row.dose != row.neuron.layer for control in controls for row in control)


def test_a_global_control_does_not_keep_to_the_layers():
    assert len({tuple(sorted(layers(random_control(FOUND, seed=seed)).items())) for seed in range(20)}) > 1


def test_controls_reach_every_neuron_that_is_not_in_the_circuit():
    """Over many seeds, about evenly: 148 neurons, each expected 81 times in a thousand controls of twelve."""
    counts = Counter(row.neuron for seed in range(1000) for row in random_control(FOUND, seed=seed))
    assert len(counts) == sum(WIDE.widths) - len(FOUND)
    assert min(counts.values()) > 40
    assert max(counts.values()) < 130


def test_a_control_says_what_it_is():
    control = random_control(FOUND, seed=7, match="layer")
    assert control.name == "refusal-random-7"
    assert control.direction == "induce"
    assert control.origin.method == {"kind": "random_control", "match": "layer"}
    assert control.origin.seed == 7
    assert control.origin.model == WIDE
    assert control.origin.universal is None
    assert control.stability is None
    assert all(row.score == 0 for row in control)


def test_a_circuit_that_does_not_know_its_model_has_no_control():
    with pytest.raises(CircuitError, match="does not say which model"):
        random_control(Circuit.of([]), seed=0)


def test_a_circuit_of_most_of_the_model_has_no_control():
    most = Circuit.of([Row(neuron, 1.0, 1.0) for neuron in ALL_NEURONS[:9]], origin=Origin(model=MODEL))
    with pytest.raises(CircuitError, match=r"too few neurons.*a smaller circuit"):
        random_control(most, seed=0)
    assert len(random_control(most.top(8), seed=0)) == 8
