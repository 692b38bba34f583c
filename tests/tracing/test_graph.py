"""Trace graphs: conservation along edges, edges against interventions on the linear model, pruning, files."""

import json
import shutil
import subprocess

import pytest
import torch

from neurodial.circuit.selection import Count, Fraction, Mass, Threshold
from neurodial.errors import FileError, OptionError, TraceFileError
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject
from neurodial.tracing.graph import Edge, GraphNode, TraceGraph, strongest
from neurodial.tracing.graph_file import read_trace, trace_dot, trace_json, write_trace
from neurodial.tracing.hidden_graph import Pruning, hidden_graphs
from neurodial.tracing.neuron_graph import neuron_graph
from neurodial.tracing.nodes import Node, select_nodes
from neurodial.tracing.question import Question
from neurodial.tracing.relevance import relevance
from neurodial.tracing.super_weights import super_weights

QUESTION = Question((256, 72, 105, 106, 33), target=10, foil=11)


def unbiased(family):
    subject = tiny_subject(family)
    for name, parameter in subject.model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    subject.model.to(torch.float64)
    return subject


def everything(subject):
    [found] = relevance(subject, [QUESTION])
    return found, neuron_graph(subject, found, select_nodes(found, Fraction(1.0)))


# ------------------------------------------------------------------------------------------- edges between neurons


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_what_leaves_a_node_and_what_enters_it_is_its_relevance(family):
    found, graph = everything(unbiased(family))
    left = dict.fromkeys((node.id for node in graph.nodes), 0.0)
    entered = dict(left)
    for edge in graph.edges:
        left[edge.source] += edge.weight
        entered[edge.target] += edge.weight
    # transformers' norms round to float32 in the forward pass, hence not 1e-12.
    for node in graph.nodes:
        if node.kind != "target":
            assert left[node.id] == pytest.approx(node.relevance, rel=1e-5, abs=1e-6)
        if node.kind != "input":
            assert entered[node.id] == pytest.approx(node.relevance, rel=1e-5, abs=1e-6)
    assert entered["target"] == pytest.approx(found.value, rel=1e-5)


def test_an_edge_is_what_an_intervention_on_the_linear_model_moves(wide):
    """The linear model is written out by hand with its constants; the source is raised, other neurons are held."""
    subject = wide("llama")
    constants = recorded(subject)  # eager attention from here on: it gives patterns, rounded to float32
    found, graph = everything(subject)
    weights = {(edge.source, edge.target): edge.weight for edge in graph.edges}
    source, target = Node(0, 1, 3), Node(1, 4, 7)
    step = 0.5 * float(found.activations[0][source.token, source.neuron])
    moved = linear_neuron(subject, constants, source, step, target) - linear_neuron(
        subject, constants, source, 0.0, target
    )
    slope = float(found.neurons[1][target.token, target.neuron]) / float(found.activations[1][4, 7])
    assert weights["neuron 0.1.3", "neuron 1.4.7"] == pytest.approx(2 * moved * slope, rel=1e-9)
    assert abs(moved) > 1e-6


@torch.no_grad()
def recorded(subject):
    """Activations of layer 0's neurons, the stream before and the patterns: the linear model's constants."""
    subject.model.set_attn_implementation("eager")
    tokens = torch.tensor([QUESTION.tokens])
    passed = subject.model(tokens, output_attentions=True, output_hidden_states=True)
    block = subject.blocks[1]
    kept: dict[str, torch.Tensor] = {}
    handles = [
        block.post_attention_layernorm.register_forward_pre_hook(lambda m, args: kept.update(middle=args[0][0])),
        block.mlp.down_proj.register_forward_pre_hook(lambda m, args: kept.update(neurons=args[0][0])),
    ]
    subject.model(tokens)
    for handle in handles:
        handle.remove()
    return {"stream": passed.hidden_states[1][0], "patterns": passed.attentions[1][0], **kept}


@torch.no_grad()
def linear_neuron(subject, constants, source, step, target):
    """A neuron of layer 1 in the linear model, after `step` is added to a neuron of layer 0."""
    block = subject.blocks[1]
    stream = constants["stream"].clone()
    stream[source.token] += step * subject.blocks[0].mlp.down_proj.weight[:, source.neuron]

    def coefficient(x, norm):
        return norm.weight * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    values = (stream * coefficient(constants["stream"], block.input_layernorm)) @ block.self_attn.v_proj.weight.T
    mixed = torch.cat([pattern @ values for pattern in constants["patterns"]], dim=-1)
    middle = stream + mixed @ block.self_attn.o_proj.weight.T
    fixed = coefficient(constants["middle"], block.post_attention_layernorm)
    row = (middle * fixed)[target.token]
    frozen = (constants["middle"] * fixed)[target.token]
    gate, up = block.mlp.gate_proj.weight[target.neuron], block.mlp.up_proj.weight[target.neuron]
    ratio = torch.sigmoid(frozen @ gate)  # SiLU's output over its input
    half = (row @ gate) * ratio * (frozen @ up) + (frozen @ gate) * ratio * (row @ up)
    return float(half / 2)


def test_the_linear_model_by_hand_is_the_model_where_nothing_is_moved():
    subject = unbiased("llama")
    constants = recorded(subject)
    value = linear_neuron(subject, constants, Node(0, 1, 3), 0.0, Node(1, 4, 7))
    assert value == pytest.approx(float(constants["neurons"][4, 7]), rel=1e-5)


def test_a_smaller_circuit_has_the_same_edges_between_its_nodes():
    subject = unbiased("qwen2")
    found, whole = everything(subject)
    nodes = select_nodes(found, Count(20))
    part = neuron_graph(subject, found, nodes)
    weights = {(edge.source, edge.target): edge.weight for edge in whole.edges}
    assert len(part.edges) < len(whole.edges)
    for edge in part.edges:
        assert edge.weight == pytest.approx(weights[edge.source, edge.target], rel=1e-9)


# ------------------------------------------------------------------------------------------- hidden states


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_an_unpruned_graph_of_hidden_states_conserves_relevance(family):
    subject = unbiased(family)
    [found] = relevance(subject, [QUESTION])
    [graph] = hidden_graphs(subject, [QUESTION], pruning=Pruning(node_threshold=0.0, edge_mass=1.0))
    left = dict.fromkeys((node.id for node in graph.nodes), 0.0)
    for edge in graph.edges:
        left[edge.source] += edge.weight
    for node in graph.nodes:
        if node.kind != "target":
            depth = node.layer or 0
            assert node.relevance == pytest.approx(float(found.hidden[depth][node.token]), rel=1e-5, abs=1e-9)
            assert left[node.id] == pytest.approx(node.relevance, rel=1e-5, abs=1e-6)


def test_several_questions_in_one_batch_are_as_one_by_one():
    subject = unbiased("llama")
    others = [QUESTION, Question((256, 40), 3), Question((256, 72, 105, 106, 107, 108, 109), 5, 9)]
    for question, graph in zip(others, hidden_graphs(subject, others), strict=True):
        [alone] = hidden_graphs(subject, [question])
        assert [node.id for node in graph.nodes] == [node.id for node in alone.nodes]
        assert len(graph.edges) == len(alone.edges) > 0
        for edge, other in zip(graph.edges, alone.edges, strict=True):
            assert edge[:2] == other[:2]
            assert edge.weight == pytest.approx(other.weight, rel=1e-4)


def test_pruning_keeps_what_it_says():
    subject = unbiased("llama")
    [whole] = hidden_graphs(subject, [QUESTION], pruning=Pruning(0.0, 1.0))
    [nodes] = hidden_graphs(subject, [QUESTION], pruning=Pruning(0.2, 1.0))
    [edges] = hidden_graphs(subject, [QUESTION], pruning=Pruning(0.0, 0.5))
    assert len(nodes.nodes) < len(whole.nodes)
    assert all(abs(node.relevance) >= 0.2 * abs(nodes.value) for node in nodes.nodes if node.kind == "hidden")
    assert len(edges.edges) < len(whole.edges)
    reached = {edge.source for edge in edges.edges}
    assert all(node.id in reached for node in edges.nodes if node.kind == "hidden")
    for bad in ({"node_threshold": -1.0}, {"edge_mass": 0.0}, {"edge_mass": 1.5}):
        with pytest.raises(OptionError):
            Pruning(**bad)


# ------------------------------------------------------------------------------------------- selection


def test_selections():
    subject = unbiased("llama")
    [found] = relevance(subject, [QUESTION])
    total = sum(part.numel() for part in found.neurons)
    assert len(select_nodes(found, Fraction(0.1))) == round(0.1 * total)
    by_threshold = select_nodes(found, Threshold(0.05))
    assert 0 < len(by_threshold) < total
    assert all(abs(score.relevance) >= 0.05 * abs(found.value) for score in by_threshold)
    assert len(select_nodes(found, Count(len(by_threshold) + 1))) > len(by_threshold)
    by_mass = select_nodes(found, Mass(0.5))
    mass = sum(float(part.abs().sum()) for part in found.neurons)
    held = [abs(score.relevance) for score in by_mass]
    assert sum(held) >= 0.5 * mass > sum(held[:-1])
    few, more = select_nodes(found, Count(7)), select_nodes(found, Count(8))
    assert few == more[:7]
    for score in few:
        node = score.node
        assert float(found.neurons[node.layer][node.token, node.neuron]) == pytest.approx(score.relevance)
    for bad in (lambda: Threshold(0.0), lambda: Mass(1.1)):
        with pytest.raises(OptionError):
            bad()


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma2"])
def test_the_weights_of_a_node_sum_to_its_relevance(family):
    subject = unbiased(family)
    [found] = relevance(subject, [QUESTION])
    nodes = select_nodes(found, Count(3))
    layer = nodes[0].node.layer
    column = nodes[0].node.neuron
    with torch.no_grad():
        subject.down_weight(subject.sites[layer])[:, column] *= torch.tensor([1.0] + [0.0] * 15)
    [found] = relevance(subject, [QUESTION])
    [score] = [score for score in select_nodes(found, Fraction(1.0)) if score.node == nodes[0].node]
    [only] = super_weights(subject, QUESTION, [score])
    assert only.coordinate == 0
    assert only.share == pytest.approx(1.0)
    assert only.relevance == pytest.approx(score.relevance, rel=1e-6)


# ------------------------------------------------------------------------------------------- the graph as a value


def node(name, kind="neuron", relevance=1.0):
    return GraphNode(name, kind, 0, 0, 0, relevance, name)


def diamond():
    """Two inputs, both through `waist`, then by two ways to the target; `aside` is a dead end."""
    nodes = (
        node("x", "input"),
        node("y", "input"),
        node("waist"),
        node("a"),
        node("b"),
        node("aside"),
        node("t", "target"),
    )
    edges = [("x", "waist", 1.0), ("y", "waist", 2.0), ("waist", "a", 2.0), ("waist", "b", 1.0), ("x", "aside", 0.1)]
    edges += [("a", "t", 2.0), ("b", "t", -1.0)]
    return TraceGraph(
        nodes, tuple(Edge(*edge) for edge in edges), ("x", "y"), "target", "foil", 1.0, {"rules": {"norm": True}}
    )


def test_hubs_and_bottlenecks_are_read_off():
    graph = diamond()
    assert [found.id for found in graph.hubs(2)] == ["waist", "a"]
    assert [found.id for found in graph.bottlenecks()] == ["waist"]
    assert TraceGraph(graph.nodes, (), (), "", "", 1.0).bottlenecks() == []


def test_the_connected_part_and_the_strongest_edges():
    graph = diamond().connected()
    assert "aside" not in {found.id for found in graph.nodes}
    assert len(graph.edges) == 6
    assert {edge.source for edge in graph.strongest(0.6).edges if edge.target == "t"} == {"a"}
    assert strongest([], 0.5) == []
    with pytest.raises(OptionError):
        graph.strongest(0.0)


def test_a_graph_that_leads_back_is_refused():
    with pytest.raises(OptionError, match="no node or back"):
        TraceGraph((node("a"), node("b")), (Edge("b", "a", 1.0),), (), "", "", 1.0)
    with pytest.raises(OptionError, match="no node or back"):
        TraceGraph((node("a"),), (Edge("a", "c", 1.0),), (), "", "", 1.0)
    with pytest.raises(OptionError, match="twice"):
        TraceGraph((node("a"), node("a")), (), (), "", "", 1.0)


def test_write_then_read_is_the_identity(tmp_path):
    path = write_trace(diamond(), tmp_path / "one.trace.json")
    assert read_trace(path) == diamond()
    with pytest.raises(FileError, match="exists"):
        write_trace(diamond(), path)
    write_trace(diamond(), path, overwrite=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "neurodial.circuit"}, "not a trace file"),
        ({"version": 2}, "version 2"),
        ({"value": "high"}, "damaged: value"),
        ({"edges": {"source": ["t"], "target": ["x"], "weight": [1.0]}}, "no node or back"),
        ({"edges": {"source": ["x"], "target": [], "weight": [1.0]}}, "damaged"),
    ],
)
def test_a_damaged_file_is_refused(change, message, tmp_path):
    path = tmp_path / "bad.trace.json"
    path.write_text(json.dumps(json.loads(trace_json(diamond())) | change))
    with pytest.raises(TraceFileError, match=message):
        read_trace(path)
    path.write_text("{")
    with pytest.raises(TraceFileError, match="not JSON"):
        read_trace(path)
    with pytest.raises(FileError):
        read_trace(tmp_path / "none.trace.json")


def test_dot_names_every_node_and_edge_and_quotes():
    graph = TraceGraph(
        (node('say "x"\n', "input"), node("t", "target")), (Edge('say "x"\n', "t", -1.0),), ("x",), "", "", 1.0
    )
    text = trace_dot(graph)
    assert '"say \\"x\\"\\n" -> "t"' in text
    assert "#b3261e" in text
    assert text.count("{") == text.count("}")
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=text, text=True, check=True, capture_output=True)
