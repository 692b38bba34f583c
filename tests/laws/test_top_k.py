"""Law 6: choices are nested, ties go by (layer, expert, index), random controls never touch the circuit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.subjects import circuit_of, shared

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin
from neurodial.circuit.controls import random_control
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import CircuitError, OptionError
from neurodial.methods.choose import Rule, choose
from neurodial.methods.scores import Scores
from neurodial.provenance import ModelIdentity

# Few different values, so that ties are common; layers differ in width.
VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, 3.0])
LAYERS = st.lists(st.lists(VALUES, min_size=1, max_size=6), min_size=1, max_size=4)
SIGNS = st.sampled_from(["both", "positive", "negative"])


def scores_of(layers):
    return Scores({Site(layer): torch.tensor(values) for layer, values in enumerate(layers)})


def expected(layers, sign, excluded=(), skipped=()):
    """Every neuron that may be chosen, best first, by sorting in Python."""
    strength = {"both": abs, "positive": lambda value: value, "negative": lambda value: -value}[sign]
    found = [
        (strength(value), Neuron(layer, None, index))
        for layer, values in enumerate(layers)
        for index, value in enumerate(values)
        if layer not in skipped and Neuron(layer, None, index) not in excluded
    ]
    kept = [(key, neuron) for key, neuron in found if sign == "both" or key > 0]
    return [neuron for _, neuron in sorted(kept, key=lambda pair: (-pair[0], pair[1].layer, pair[1].index))]


@settings(deadline=None, max_examples=80)
@given(LAYERS, SIGNS, st.data())
def test_a_choice_is_the_sorted_list_cut_off(layers, sign, data):
    everything = [Neuron(layer, None, index) for layer, values in enumerate(layers) for index in range(len(values))]
    excluded = data.draw(st.sets(st.sampled_from(everything)))
    skipped = tuple(data.draw(st.sets(st.integers(0, len(layers) - 1))))
    wanted = expected(layers, sign, excluded, skipped)
    for count in (1, 2, len(everything)):
        rule = Rule(nd.Count(count), sign, skipped, excluded)
        if not wanted:
            with pytest.raises(OptionError, match=r"No neuron is left|Every layer is skipped"):
                choose(scores_of(layers), rule)
            continue
        rows = choose(scores_of(layers), rule)
        assert [row.neuron for row in rows] == wanted[:count]
        assert [row.score for row in rows] == [layers[row.neuron.layer][row.neuron.index] for row in rows]
        assert {row.dose for row in rows} == {1.0}


@settings(deadline=None, max_examples=40)
@given(LAYERS, st.integers(1, 20))
def test_k_lies_within_k_plus_one(layers, count):
    smaller, larger = (choose(scores_of(layers), Rule(nd.Count(k))) for k in (count, count + 1))
    assert larger[: len(smaller)] == smaller
    total = sum(map(len, layers))
    assert (len(smaller), len(larger)) == (min(count, total), min(count + 1, total))


@settings(deadline=None, max_examples=40)
@given(LAYERS, st.integers(1, 20))
def test_the_top_of_a_circuit_is_the_smaller_choice(layers, count):
    everything = Circuit.of(choose(scores_of(layers), Rule(nd.Count(1000))))
    assert everything.top(count) == Circuit.of(choose(scores_of(layers), Rule(nd.Count(count))))


def test_ties_go_by_layer_and_index():
    scores = scores_of([[0.0, 1.0, 1.0], [-1.0, 1.0]])
    assert [row.neuron[::2] for row in choose(scores, Rule(nd.Count(4)))] == [(0, 1), (0, 2), (1, 0), (1, 1)]


def test_experts_come_after_the_dense_mlp_of_their_layer():
    shapes = {Site(1): (1,), Site(0, routed=True): (2, 1), Site(0): (1,)}
    scores = Scores({site: torch.ones(shape) for site, shape in shapes.items()})
    order = [row.neuron for row in choose(scores, Rule(nd.Count(4)))]
    assert order == [Neuron(0, None, 0), Neuron(0, 0, 0), Neuron(0, 1, 0), Neuron(1, None, 0)]


def test_the_fraction_is_of_all_neurons():
    """Skipping layers or filtering does not shrink the circuit: the paper's k is a share of the model."""
    scores = scores_of([[float(value) for value in range(100)], [0.5] * 100])
    assert len(choose(scores, Rule(nd.Fraction(0.05)))) == 10
    assert len(choose(scores, Rule(nd.Fraction(0.05), skip_layers=(0,)))) == 10
    assert len(choose(scores, Rule(nd.Fraction(1e-9)))) == 1


def test_a_layer_to_skip_must_exist():
    with pytest.raises(OptionError, match=r"no layer 2 to skip.*0 to 1"):
        choose(scores_of([[1.0], [1.0]]), Rule(nd.Count(1), skip_layers=(0, 2)))


# ------------------------------------------------------------------------------------------- random controls


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 10_000), st.sampled_from(["global", "layer"]))
def test_random_controls_never_touch_the_circuit(count, seed, match):
    identity = ModelIdentity("m", "llama", "d", None, "t", None, "float32", (12, 20, 16))
    generator = torch.Generator().manual_seed(seed)
    values = {Site(layer): torch.rand(width, generator=generator) for layer, width in enumerate(identity.widths)}
    rows = choose(Scores(values), Rule(nd.Count(count)))
    circuit = Circuit.of(rows, origin=Origin(model=identity))
    control = random_control(circuit, seed=seed, match=match)
    assert control.neurons.isdisjoint(circuit.neurons)
    assert len(control) == len(circuit)
    if match == "layer":
        assert {s: len(r) for s, r in control.sites.items()} == {s: len(r) for s, r in circuit.sites.items()}
    assert random_control(circuit, seed=seed, match=match) == control


def test_random_controls_differ_by_seed_and_keep_the_doses():
    circuit = circuit_of(shared(), 6, dose=0.5)
    first, second = (random_control(circuit, seed=seed) for seed in (0, 1))
    assert first.neurons != second.neurons
    assert [row.dose for row in first] == [0.5] * 6


def test_a_control_without_room_is_refused():
    circuit = nd.discover(shared(), nd.Contrast.of(["a"], ["b"]), method=nd.CNA(universal=None), select=nd.Count(30))
    with pytest.raises(CircuitError, match="too few neurons"):
        random_control(circuit, seed=0)
    with pytest.raises(CircuitError, match="which model"):
        random_control(circuit_of(shared(), 2, known=False), seed=0)
