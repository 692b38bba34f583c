"""Scaling and pinning against hand-written hooks and edited weights."""

import copy
import dataclasses
import math

import pytest
import torch
from tests import naive
from tests.records import record_of
from tests.subjects import (
    FAMILIES,
    SOME_FAMILIES,
    circuit_of,
    close,
    differ,
    fresh,
    logits,
    same_bits,
    shared,
    tokens_of,
)

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import ModelMismatchError, OptionError, SteeringError, UnknownNameError

DOSES = (1.0, 0.5, -0.25, 2.0, 1.5)


def dosed(subject):
    """Five neurons with five different doses."""
    rows = circuit_of(subject, len(DOSES)).rows
    return Circuit.of([row._replace(dose=dose) for row, dose in zip(rows, DOSES, strict=True)])


def baked(subject, circuit, dial):
    """A copy of the model in which the columns of the down projection are multiplied instead."""
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        for row in circuit:
            weight = naive.down(model, row.neuron.layer).weight
            column = weight[row.neuron.index] if record_of(subject).transposed else weight[:, row.neuron.index]
            column *= 1 - dial * row.dose
    return dataclasses.replace(subject, model=model)


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_neurons_is_scaling_columns_of_the_down_projection(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    circuit = dosed(subject)
    for dial in (1.0, 0.5, -1.0, 3.0):
        with nd.steer(subject, nd.Scale(circuit, dial=dial)):
            steered = logits(subject, row)
        close(steered, logits(baked(subject, circuit, dial), row))
        differ(steered, logits(subject, row))


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_scaling_is_a_multiplication_in_a_hook(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    neuron = Neuron(1, None, 4)

    def change(neurons):
        neurons = neurons.clone()
        neurons[..., neuron.index] *= 1 - 0.5 * 3.0
        return neurons

    with naive.hooked(naive.down(subject.model, 1), change):
        expected = logits(subject, row)
    with nd.steer(subject, nd.Scale(Circuit.of([Row(neuron, 1.0, 3.0)]), dial=0.5)):
        assert same_bits(logits(subject, row), expected)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_pinning_is_an_assignment_in_a_hook(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    pins = {Neuron(0, None, 2): -3.0, Neuron(1, None, 5): 1e-3, Neuron(1, None, 7): 40.0}

    def change(layer, share):
        def assign(neurons):
            neurons = neurons.clone()
            for neuron, value in pins.items():
                if neuron.layer == layer:
                    neurons[..., neuron.index] += share * (value - neurons[..., neuron.index])
                    if share == 1:
                        neurons[..., neuron.index] = value
            return neurons

        return assign

    for share in (1.0, 0.5, -1.0):
        with (
            naive.hooked(naive.down(subject.model, 0), change(0, share)),
            naive.hooked(naive.down(subject.model, 1), change(1, share)),
        ):
            expected = logits(subject, row)
        with nd.steer(subject, nd.Pin(pins, dial=share)):
            close(logits(subject, row), expected)
        differ(expected, logits(subject, row))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_pinned_neuron_is_exactly_the_value(dtype):
    """Whatever it was before: adding the difference to a large activation would round the value away."""
    subject = fresh()
    subject.model.to(dtype)
    neuron, seen = Neuron(0, None, 2), []
    with torch.no_grad():
        subject.blocks[0].mlp.up_proj.weight[neuron.index] *= 1000
    [row] = tokens_of(subject)
    with nd.steer(subject, nd.Pin({neuron: 0.5})):
        handle = naive.down(subject.model, 0).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        logits(subject, row)
        handle.remove()
    assert set(seen[0][..., neuron.index].flatten().tolist()) == {0.5}


# ------------------------------------------------------------------------------------------- composition


def test_doses_on_one_neuron_add():
    subject = shared()
    [row] = tokens_of(subject)
    first, second = circuit_of(subject, 4), circuit_of(subject, 6)
    shared_neurons = first.neurons & second.neurons
    assert shared_neurons
    summed = dict.fromkeys(first.neurons | second.neurons, 0.0)
    for circuit, dial in ((first, 0.5), (second, -2.0)):
        for entry in circuit:
            summed[entry.neuron] += dial * entry.dose
    total = Circuit.of([Row(neuron, 0.0, dose) for neuron, dose in summed.items()])
    with nd.steer(subject, nd.Scale(total)):
        expected = logits(subject, row)
    parts = nd.Scale(first, dial=0.5), nd.Scale(second, dial=-2.0)
    with nd.steer(subject, *parts):
        assert same_bits(logits(subject, row), expected)
    with nd.steer(subject, parts[0] + parts[1]):
        assert same_bits(logits(subject, row), expected)
    with nd.steer(subject, *reversed(parts)):
        assert same_bits(logits(subject, row), expected)
    product = Circuit.of(
        [Row(neuron, 0.0, 1 - (1 - 0.5 * (neuron in first)) * (1 + 2.0 * (neuron in second))) for neuron in summed]
    )
    with nd.steer(subject, nd.Scale(product)):
        differ(logits(subject, row), expected)


def test_opposite_dials_of_one_circuit_cancel():
    subject = shared()
    [row] = tokens_of(subject)
    circuit = circuit_of(subject)
    with nd.steer(subject, nd.Scale(circuit, dial=0.75), nd.Scale(circuit, dial=-0.75)):
        assert same_bits(logits(subject, row), logits_plain(subject, row))


def logits_plain(subject, row):
    return logits(dataclasses.replace(subject, model=copy_without_hooks(subject)), row)


def copy_without_hooks(subject):
    from neurodial.model.tiny import tiny_model

    model = tiny_model("llama")
    model.load_state_dict(subject.model.state_dict())
    return model


def test_nested_blocks_follow_one_another():
    """Each block scales what the block around it left: multipliers of nested blocks multiply."""
    subject = shared()
    [row] = tokens_of(subject)
    circuit = circuit_of(subject)
    with nd.steer(subject, nd.Scale(circuit, dial=0.5)), nd.steer(subject, nd.Scale(circuit, dial=0.5)):
        nested = logits(subject, row)
    with nd.steer(subject, nd.Scale(circuit, dial=0.75)):
        close(nested, logits(subject, row))
    with nd.steer(subject, nd.Scale(circuit, dial=1.0)):
        differ(nested, logits(subject, row))


# ------------------------------------------------------------------------------------------- refusals


def test_a_circuit_of_another_model_is_refused_with_what_differs():
    subject, other = shared("llama"), fresh("llama", seed=1)
    circuit = circuit_of(other)
    [row] = tokens_of(subject)
    with (
        pytest.raises(ModelMismatchError, match=r"made on tiny-llama.*weights \(digest .* against .*force=True"),
        nd.steer(subject, nd.Scale(circuit)),
    ):
        pass
    with nd.steer(subject, nd.Scale(circuit, force=True)):
        forced = logits(subject, row)
    with nd.steer(subject, nd.Scale(circuit_of(subject))):
        assert same_bits(logits(subject, row), forced)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (24, 25)}, r"neurons per layer \(\[24, 25\] against 2 x 24\)"),
        ({"layout": "3" * 64}, r"layout \(llama 333333333333 against llama"),
        ({"digest": "0" * 64}, "weights"),
        ({"adapter_digest": "1" * 64}, "adapter .111111111111 against none"),
        ({"tokenizer_hash": "2" * 64}, "another vocabulary"),
    ],
)
def test_each_difference_is_named(change, message):
    subject = shared()
    identity = dataclasses.replace(subject.identity, **change)
    circuit = dataclasses.replace(circuit_of(subject), origin=Origin(model=identity))
    with pytest.raises(ModelMismatchError, match=message):
        nd.Scale(circuit).compile(subject)


@pytest.mark.parametrize("change", [{"label": "elsewhere"}, {"dtype": "bfloat16"}, {"template_hash": None}])
def test_what_does_not_make_another_model_is_accepted(change):
    subject = shared()
    identity = dataclasses.replace(subject.identity, **change)
    nd.Scale(dataclasses.replace(circuit_of(subject), origin=Origin(model=identity))).compile(subject)


@pytest.mark.parametrize(
    "neuron", [Neuron(2, None, 0), Neuron(0, None, 24), Neuron(-1, None, 0), Neuron(0, None, -1), Neuron(0, 1, 0)]
)
@pytest.mark.parametrize("force", [False, True])
def test_neurons_that_do_not_exist_are_refused_even_by_force(neuron, force):
    with pytest.raises(SteeringError, match=r"no neuron \(layer .*layers 0 to 1, (indices below 24|and an expert)"):
        nd.Scale(Circuit.of([Row(neuron, 1.0, 1.0)]), force=force).compile(shared())
    with pytest.raises(SteeringError, match="no neuron"):
        nd.Pin({neuron: 1.0}).compile(shared())


@pytest.mark.parametrize("dial", [math.nan, math.inf, 101.0, -101.0, [0.0, math.nan]])
def test_absurd_dials_are_refused(dial):
    for make in (
        lambda: nd.Scale(circuit_of(shared()), dial=dial),
        lambda: nd.Pin({}, dial=dial),
        lambda: nd.AddVector(torch.ones(16), layer=0, dial=dial),
        lambda: nd.ProjectOut(torch.ones(16), dial=dial),
    ):
        with pytest.raises(OptionError, match="from -100 to 100"):
            make()


def test_no_dials_are_refused():
    with pytest.raises(OptionError, match="list of dials is empty"):
        nd.Scale(circuit_of(shared()), dial=[])


def test_pins_that_are_not_finite_are_refused():
    with pytest.raises(OptionError, match=r"index 3.*nan"):
        nd.Pin({Neuron(0, None, 3): math.nan})


def test_an_unknown_phase_is_refused():
    from neurodial.intervention.base import check_options

    with pytest.raises(UnknownNameError, match="Did you mean prompt"):
        check_options.__wrapped__(1.0, "promt") if hasattr(check_options, "__wrapped__") else check_options(
            1.0, "promt"
        )
