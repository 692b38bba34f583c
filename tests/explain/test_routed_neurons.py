"""Explanations of neurons in routed experts: what is watched is what a loop over experts computes."""

import pytest
import torch
from tests.routed import by_hand, near, routed_circuit, subject_of

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.evaluation.report.html_page import render_page
from neurodial.explain.corpus import corpus_of
from neurodial.explain.explain_circuit import explain_circuit
from neurodial.explain.explain_page import explanation_page
from neurodial.explain.likeness import alike_in_writing, correlated
from neurodial.explain.read_corpus import read_corpus
from neurodial.model.expert_rows import up_row
from neurodial.model.tiny import tiny_subject
from neurodial.tracing.neuron import tokens_of_write


def watched(subject, circuit, texts):
    corpus = corpus_of(subject, None, texts, name="some")
    reading = read_corpus(subject, circuit, corpus, shown=0, places=2)
    sequences = [torch.tensor(text.tokens) for text in corpus.texts]
    return corpus, reading, sequences


@pytest.mark.parametrize(
    ("name", "way"), [("mixtral", "grouped_mm"), ("qwen2_moe", "eager"), ("gpt_oss", "batched_mm")]
)
def test_an_explanation_watches_routing_weight_times_activation(name, way):
    subject = subject_of(name, way)
    circuit = routed_circuit(subject)
    _, reading, sequences = watched(subject, circuit, [f"{number} pears " * (1 + number % 3) for number in range(9)])
    tables = {
        layer: torch.cat([by_hand(subject, layer, tokens) for tokens in sequences]).double()
        for layer, _ in subject.layout.experts
    }
    by_neuron = torch.stack([tables[row.neuron.layer][:, *row.neuron.place] for row in circuit])
    assert near(reading.total, by_neuron.sum(dim=1))
    assert near(reading.products, by_neuron @ by_neuron.T)
    channel = reading.watched.shown[0]
    own = circuit.rows[channel].neuron
    every = tables[own.layer].flatten(start_dim=1).T
    wanted = torch.corrcoef(every)[own.number(subject.shape(own.site))].nan_to_num()
    assert near(reading.in_layer(channel), wanted)
    strongest = reading.places.strongest(0)[0]
    values = by_hand(subject, own.layer, sequences[strongest.text])[:, *own.place]
    assert near(torch.tensor(strongest.value), values[strongest.position].float())
    nearest = correlated(reading, channel, 3)
    assert nearest[0].neuron.site == own.site or nearest[0].in_circuit
    assert own not in {neighbour.neuron for neighbour in nearest}


def test_an_explanation_of_experts_says_what_they_write_read_and_are_like():
    subject = tiny_subject("mixtral")
    first, second = Neuron(0, 1, 3), Neuron(0, 2, 5)
    with torch.no_grad():
        down = subject.down_weight(first.site)
        down[1, :, 11] = -2 * down[1, :, 3]
    circuit = Circuit.of([Row(first, 2.0, 1.0), Row(second, 1.0, 1.0)])
    corpus, reading, _ = watched(subject, circuit, [f"word {number}" for number in range(6)])
    nearest = alike_in_writing(subject, reading, 0)[0]
    assert (nearest.neuron, nearest.in_circuit) == (Neuron(0, 1, 11), False)
    assert nearest.likeness == pytest.approx(-1, abs=1e-5)
    found = explain_circuit(subject, circuit, corpus)
    assert [neuron.name for neuron in found.neurons] == ["layer 0, expert 1, neuron 3", "layer 0, expert 2, neuron 5"]
    up, _ = tokens_of_write(subject, down[1, :, 3].detach(), 3)
    assert [token.token for token in found.neurons[0].writes[:3]] == [token.token for token in up]
    module = subject.blocks[0].get_submodule(subject.experts(0).module)
    assert torch.equal(up_row(subject, first), module.gate_up_proj[1, 24 + 3])
    assert found.neurons[0].reads.keys() == {"up"}
    page = render_page(explanation_page(found))
    assert "Layer 0, expert 1, neuron 3" in page
    assert "0.e2.5" in page
    assert found.as_json()["groups"][0][0] in ([0, 1, 3], [0, 2, 5])
