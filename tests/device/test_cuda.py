"""On a CUDA device everything gives what the processor gives: the same models, side by side."""

import copy

import pytest
import torch
from tests.serve.served import asked, text_of, two_circuits
from tests.subjects import FAMILIES, SOME_FAMILIES, circuit_of, differ, fresh, same_bits, snapshot
from tests.subjects import differences as differing

import neurodial as nd
from neurodial.circuit.selection import Count
from neurodial.discovery import find
from neurodial.evaluation.likelihood import continuation, log_likelihoods
from neurodial.export.export_circuit import export_circuit, verify_export
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.margins.beginnings import OpenerSearch
from neurodial.margins.margin import ClassifierLogit, Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.cost import Sampling, cost, quadratic_cost
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.dose.options import Dose
from neurodial.methods.single.find_neuron import SingleNeuron
from neurodial.model.subject import Subject
from neurodial.prompts.passage import Passage
from neurodial.serve.engine import Engine
from neurodial.tracing.faithfulness import ZeroAblation, faithfulness_curve
from neurodial.tracing.neuron import written_tokens
from neurodial.tracing.nodes import select_nodes
from neurodial.tracing.relevance import relevance
from neurodial.tracing.super_weights import super_weights

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

PAIRS = nd.PairSet.of([f"harm {n}?" for n in range(14)], [f"help {n}!" for n in range(14)])
PASSAGES = [Passage((256, 72, 105, 110, 97, 98), 3, 3), Passage((256, 72, 99, 100), 2, 2)]
OPENERS = Openers.of([(65, 66), (67,)])
VECTOR = torch.linspace(-1, 1, 16)
LOGIT = ClassifierLogit(lambda hidden: hidden[-1, 3] * 2 - hidden[-1, 5])


def pair(family: str = "llama") -> tuple[Subject, Subject]:
    """The same tiny model on the processor and on the device."""
    plain = fresh(family)
    moved = Subject.of(copy.deepcopy(plain.model).to(DEVICE), plain.tokenizer, label=plain.label)
    assert moved.device.type == DEVICE
    return plain, moved


def flat(value):
    """A result as one list of numbers."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().reshape(-1).tolist()
    if isinstance(value, int | float):
        return [float(value)]
    return [number for item in value for number in flat(item)]


def alike(read, family="llama"):
    """Assert that `read(subject)` gives the same numbers on both."""
    plain, moved = (flat(read(subject)) for subject in pair(family))
    assert len(plain) > 0
    scale = max(map(abs, plain))
    assert moved == pytest.approx(plain, rel=1e-3, abs=1e-4 * scale)


@torch.no_grad()
def logits(subject, row=(256, 72, 105, 110)):
    return subject.model(torch.tensor([row], device=subject.device)).logits[0]


@pytest.mark.parametrize("method", [CNA(universal=None), CNA(score="auroc", universal=None), CNA()], ids=str)
def test_contrast(method):
    alike(lambda subject: find(subject, PAIRS, method=method).scores.flat())


@pytest.mark.parametrize("family", FAMILIES)
def test_effect_and_cost(family):
    def read(subject):
        moments = effect(subject, OPENERS, PAIRS.discovery.positive)
        yield effect_scores(moments, subject.sites).flat()
        yield cost(subject, PASSAGES, sampling=Sampling(2)).scores.flat()
        yield quadratic_cost(subject, PASSAGES, [row.neuron for row in circuit_of(subject)])

    alike(read, family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dial", [0.0, 0.7, -1.5])
def test_every_intervention(family, dial):
    plain, moved = pair(family)
    circuit = circuit_of(plain)
    for intervention in (
        nd.Scale(circuit, dial=dial),
        nd.Pin(dict.fromkeys(circuit.neurons, 3.0), dial=dial),
        nd.AddVector(VECTOR, layer=0, dial=dial),
        nd.ProjectOut(VECTOR, dial=dial),
        nd.ProjectOut(VECTOR, where="blocks", dial=dial),
    ):
        before, untouched = snapshot(moved.model), logits(moved)
        with nd.steer(plain, intervention):
            wanted = logits(plain)
        with nd.steer(moved, intervention):
            found = logits(moved)
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=1e-3)
        if dial == 0:
            assert same_bits(found, untouched)
        else:
            differ(found, untouched)
        assert differing(before, snapshot(moved.model)) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dial_zero_in_half_precision(dtype):
    _, moved = pair()
    moved.model.to(dtype)
    untouched = logits(moved)
    with nd.steer(moved, nd.Scale(circuit_of(moved), dial=0.0)):
        assert same_bits(logits(moved), untouched)


def test_generation_with_mixed_dials():
    plain, moved = pair()
    texts = ["a sun", "the long way home", "x"] * 2
    under = [nd.Scale(circuit_of(plain), dial=dial) for dial in (0.0, 1.0, -2.0, 4.0, 0.0, 1.0)]
    first, second = (
        nd.generate(subject, texts, under=under, decoding=nd.Decoding(max_new_tokens=6)) for subject in (plain, moved)
    )
    assert first == second


def test_sampling_is_seeded_and_leaves_the_callers_random_state():
    _, moved = pair()
    decoding = nd.Decoding(max_new_tokens=8, temperature=1.0, seed=3)
    before = torch.cuda.get_rng_state()
    first, second = (nd.generate(moved, ["a sun"], decoding=decoding) for _ in range(2))
    assert first == second
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_measurements():
    def read(subject):
        circuit = circuit_of(subject)
        neuron = circuit.rows[0].neuron
        scales = [nd.Scale(circuit, dial=dial) for dial in (0.0, 1.0)]
        passages = own_answers(subject, ["a sun", "pear"], decoding=nd.Decoding(max_new_tokens=5))
        yield [each.mean for each in measure_divergence(subject, passages, scales)]
        yield measure_margins(subject, OPENERS, PAIRS.development.positive, under=scales[1])
        yield [one.weight for side in written_tokens(subject, neuron, count=3) for one in side]
        texts = [continuation(subject, "a", " sun"), continuation(subject, "the", " way home")]
        yield [each.total for each in log_likelihoods(subject, texts)]

    alike(read)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_traces(family):
    def read(subject):
        question = nd.ask(subject, "Hi there", "a", "b")
        [found] = relevance(subject, [question])
        ranked = select_nodes(found, Count(10))
        yield [node.relevance for node in ranked]
        yield [edge.weight for edge in nd.trace(subject, question, select=nd.Count(4)).graph.edges]
        [graph] = nd.why(subject, [question])
        yield [edge.weight for edge in graph.edges]
        curve = faithfulness_curve(subject, question, ranked, [3, 10], ZeroAblation())
        yield [curve.whole, curve.empty, *(point.faithfulness for point in curve.points)]

    alike(read, family)


def test_super_weights():
    def read(subject):
        question = nd.ask(subject, "Hi there", "a", "b")
        [found] = relevance(subject, [question])
        nodes = select_nodes(found, Count(3))
        return [[one.coordinate, one.weight, one.share] for one in super_weights(subject, question, nodes)]

    alike(read)


@pytest.mark.parametrize("options", [{}, {"sign": "both"}], ids=str)
def test_doses(options, tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("\n".join(f"tell me {number}" for number in range(8)))
    method = Dose(**{"select": nd.Count(5), "neutral": str(path), "answer_tokens": 6, "folds": 2, **options})
    first, second = (nd.discover(subject, PAIRS, method=method, margin=LOGIT) for subject in pair())
    assert first.neurons == second.neurons
    assert [row.dose for row in first] == pytest.approx([row.dose for row in second], rel=0.05)


def test_a_single_neuron():
    search = OpenerSearch(length=1, rarity=0.99, share=0.0, coverage=0.0)
    method = SingleNeuron(openers=search, steps=(0.0,))
    first, second = (nd.single_neuron(subject, PAIRS, method=method) for subject in pair())
    assert [row.candidate.neuron for row in first.sweep] == [row.candidate.neuron for row in second.sweep]


def test_the_server_answers_as_on_the_processor():
    requests = [asked(range(60, 60 + n), dial, 1.0) for n, dial in ((10, 0.0), (4, 1.0), (7, -2.0), (12, 4.0))]
    found = []
    for subject in pair():
        with Engine(subject, two_circuits(subject)) as engine:
            found.append([text_of(events) for events in engine.complete(requests)])
    assert found[0] == found[1]


@pytest.mark.parametrize("route", ["lora", "ia3", "weights"])
def test_exports_are_verified_on_the_device(route, tmp_path):
    plain, _ = pair()
    plain.model.save_pretrained(tmp_path / "model")
    plain.tokenizer.save_pretrained(tmp_path / "model")
    subject = nd.load(tmp_path / "model", device=DEVICE)
    export_circuit(subject, nd.Scale(circuit_of(subject)), route=route, output=tmp_path / "out")
    assert all(each.agrees for each in verify_export(tmp_path / "out", subject=subject))


@pytest.mark.parametrize("rest", ["cpu", "disk"])
def test_a_model_that_only_half_fits(rest, tmp_path):
    """The last block stays in ordinary memory or on disk, as with `device_map="auto"` on a small card."""
    plain, _ = pair()
    plain.model.save_pretrained(tmp_path / "model")
    plain.tokenizer.save_pretrained(tmp_path / "model")
    places = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": rest, "model.rotary_emb": 0}
    places |= {"model.norm": 0, "lm_head": 0}
    split = nd.load(tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "disk"))
    assert split.device.type == "cuda"
    method = CNA(universal=None)
    wanted, found = (find(subject, PAIRS, method=method).scores.flat() for subject in (plain, split))
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-3, abs=1e-3)
    scale = nd.Scale(circuit_of(plain), dial=1.0)
    with nd.steer(plain, scale), nd.steer(split, scale):
        torch.testing.assert_close(logits(split).cpu(), logits(plain), rtol=1e-3, atol=1e-3)
    decoding = nd.Decoding(max_new_tokens=4)
    assert nd.generate(split, ["a"], under=scale, decoding=decoding) == nd.generate(
        plain, ["a"], under=scale, decoding=decoding
    )
