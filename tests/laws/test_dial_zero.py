"""Law 1: at dial 0, and with an empty circuit, logits are bit-identical to the plain model's; elsewhere they differ."""

import pytest
import torch
from tests.subjects import FAMILIES, circuit_of, differ, logits, same_bits, shared, tokens_of

import neurodial as nd
from neurodial.circuit.circuit import Circuit

VECTOR = torch.linspace(-1, 1, 16)


def interventions(subject, dial):
    circuit = circuit_of(subject)
    pins = dict.fromkeys(circuit.neurons, 3.0)
    return {
        "scale": nd.Scale(circuit, dial=dial),
        "pin": nd.Pin(pins, dial=dial),
        "add": nd.AddVector(VECTOR, layer=0, dial=dial),
        "project writes": nd.ProjectOut(VECTOR, dial=dial),
        "project blocks": nd.ProjectOut(VECTOR, where="blocks", dial=dial),
        "together": nd.Scale(circuit, dial=dial) + nd.AddVector(VECTOR, layer=1, dial=dial),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_dial_zero_is_the_plain_model(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    plain = logits(subject, row)
    for name, intervention in interventions(subject, 0.0).items():
        with nd.steer(subject, intervention):
            assert same_bits(logits(subject, row), plain), name


@pytest.mark.parametrize("family", FAMILIES)
def test_dial_one_is_not(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    plain = logits(subject, row)
    for intervention in interventions(subject, 1.0).values():
        with nd.steer(subject, intervention):
            differ(logits(subject, row), plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_circuit_is_the_plain_model(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    plain = logits(subject, row)
    with nd.steer(subject, nd.Scale(Circuit.of([]), dial=1.0)):
        assert same_bits(logits(subject, row), plain)
    with nd.steer(subject):
        assert same_bits(logits(subject, row), plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dial_zero_holds_in_half_precision(dtype):
    from tests.subjects import fresh

    subject = fresh()
    subject.model.to(dtype)
    [row] = tokens_of(subject)
    plain = logits(subject, row)
    for name, intervention in interventions(subject, 0.0).items():
        with nd.steer(subject, intervention):
            assert same_bits(logits(subject, row), plain), name


def test_a_row_at_dial_zero_is_the_plain_model_beside_a_steered_one():
    subject = shared()
    [row] = tokens_of(subject)
    both = torch.tensor([row, row])
    with torch.no_grad():
        plain = subject.model(both).logits
        with nd.steer(subject, nd.Scale(circuit_of(subject), dial=[0.0, 1.0])):
            steered = subject.model(both).logits
    assert same_bits(steered[0], plain[0])
    differ(steered[1], plain[1])
