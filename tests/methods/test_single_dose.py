"""One neuron with a measured dose: the planted one is found, the report is true, and other stages take the circuit."""

import json

import pytest
from tests.planting import NEUTRAL, PLANTED, holding, negative, positive

import neurodial as nd
from neurodial.circuit.file import circuit_json, parse_circuit
from neurodial.circuit.site import Neuron
from neurodial.discovery import find as find_all
from neurodial.errors import MarginError, OptionError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.registry import METHODS, method, with_select
from neurodial.methods.single.find_dose import dose_path
from neurodial.methods.single.scores_of_neurons import CandidateNeuron
from neurodial.model.tiny import tiny_subject
from neurodial.provenance import sha256

PAIRS = nd.PairSet.of(positive(), negative())


@pytest.fixture(scope="module")
def neutral(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "plain.txt"
    path.write_text("\n".join(NEUTRAL))
    return str(path)


@pytest.fixture(scope="module")
def subject():
    return holding("llama")


@pytest.fixture(scope="module")
def find(subject, neutral):
    """Discovers with some options; the same ones are not computed twice."""
    known: dict[str, nd.Circuit] = {}

    def discover(**options):
        chosen = {"margin": "openers", "neutral": neutral, "answer_tokens": 1, "candidates": 2, **options}
        key = repr(chosen)
        if key not in known:
            known[key] = nd.discover(subject, PAIRS, method=nd.Single(**chosen))
        return known[key]

    return discover


def test_the_planted_neuron_is_found_and_the_report_is_true(subject, find):
    circuit = find()
    [row] = circuit
    assert row.neuron == PLANTED
    assert 1 < row.dose <= 9
    report = circuit.origin.report
    passages = own_answers(
        subject, sorted(NEUTRAL, key=sha256)[1::2], decoding=Decoding(max_new_tokens=1)
    )  # the half that damage is measured on
    [divergence] = measure_divergence(subject, passages, [nd.Scale(circuit)])
    assert report.measured.divergence == pytest.approx(divergence.mean, rel=1e-4)
    assert report.measured.divergence <= report.goal.budget == 0.05
    openers = Openers.of([tuple(tokens) for tokens in circuit.origin.margin["openers"]["tokens"]])
    margins = measure_margins(subject, openers, PAIRS.development.positive, under=nd.Scale(circuit))
    assert report.measured.margin == pytest.approx(sum(margins) / len(margins), abs=1e-4)
    assert report.measured.margin < -10 < 10 < report.measured.margin_before


def test_the_circuit_says_how_it_was_made_and_survives_a_file(find):
    circuit = find()
    origin, report = circuit.origin, circuit.origin.report
    assert (circuit.direction, origin.behaviour, origin.margin["kind"]) == ("remove", PAIRS.behaviour.name, "openers")
    assert (origin.method["kind"], origin.method["candidates"], origin.seed) == ("Single", 2, None)
    assert (report.cost, report.predicted, circuit.stability) == (None, None, None)
    best = report.candidates[f"{PLANTED.layer}.{PLANTED.index}"]
    assert (best.margin, best.divergence) == (report.measured.margin, report.measured.divergence)
    assert all(other.margin >= best.margin for other in report.candidates.values())
    assert parse_circuit(json.loads(circuit_json(circuit)), place="here") == circuit


def test_every_option_changes_the_result(find, tmp_path):
    plain = find()
    report = plain.origin.report
    assert len(find(candidates=3).origin.report.candidates) == 3
    assert {name[:2] for name in find(layers=0.5).origin.report.candidates} == {"0."}
    assert find(budget=0.001).origin.report.measured.divergence <= 0.001 < report.measured.divergence
    aimed = find(budget=None, margin_target=0.0).origin.report
    assert aimed.measured.margin <= 0
    assert aimed.measured.divergence < report.measured.divergence
    assert find(direction="induce").rows[0].dose < 0
    assert plain.rows[0].dose > 0.5 >= find(x_max=0.5).rows[0].dose
    with pytest.raises(MarginError, match="ways that are not likely"):
        find(margin="alternatives")
    assert (report.neutral.answers, find(passages=1).origin.report.neutral.answers) == (4, 1)
    assert report.measured.tokens < find(answer_tokens=2).origin.report.measured.tokens
    assert report.measured.degenerate is None
    assert find(max_degenerate=1.0).origin.report.measured.degenerate is not None
    assert find(max_broken=1.0).origin.report.measured.broken is not None
    other = tmp_path / "other.txt"
    other.write_text("\n".join(NEUTRAL[:6]))
    assert find(neutral=str(other)).origin.report.neutral.hash != report.neutral.hash


def test_a_system_message_reaches_the_candidates_and_the_search(neutral):
    subject = tiny_subject()
    pairs = nd.PairSet.of(
        [nd.Example(f"harm {n}?", positive_answer="no", negative_answer="yes") for n in range(8)],
        [nd.Example(f"help {n}!", positive_answer="no", negative_answer="yes") for n in range(8)],
    )
    options = {"margin": "answer", "neutral": neutral, "answer_tokens": 2, "candidates": 1, "passages": 2}
    plain, told = (
        nd.discover(subject, pairs, method=nd.Single(**options, system=system)) for system in (None, "Be brief.")
    )
    assert plain.rows[0].score != told.rows[0].score
    assert plain.origin.report.measured.margin_before != told.origin.report.measured.margin_before


def test_a_neuron_that_holds_the_behaviour_down_is_turned_up():
    neuron = Neuron(0, None, 1)
    for score, direction, dose in ((2.0, "remove", 1.5), (-2.0, "remove", -1.5), (2.0, "induce", -1.5)):
        path = dose_path(CandidateNeuron(neuron, score, -1, 1.0, 0.5), nd.Single(direction=direction))
        assert (path.low, path.high) == (0.02, 9.0)
        [row] = path.at(1.5).circuit
        assert (row.neuron, row.dose) == (neuron, dose)


def test_the_scores_are_the_candidates(subject, neutral):
    method = nd.Single(margin="openers", neutral=neutral, answer_tokens=1, candidates=2)
    found = find_all(subject, PAIRS, method=method)
    assert found.scores.neurons == subject.neurons
    assert int((found.scores.flat() != 0).sum()) == 2
    [row] = found.circuit
    assert float(found.scores[row.neuron.site][row.neuron.index]) == row.score


def test_other_stages_take_the_circuit(subject, find, tmp_path):
    """Steered, measured and exported as any circuit; the export is checked to do what the hook does."""
    circuit = find()
    decoding = Decoding(max_new_tokens=1)
    [before] = nd.generate(subject, positive()[:1], decoding=decoding)
    with nd.steer(subject, nd.Scale(circuit)):
        [after] = nd.generate(subject, positive()[:1], decoding=decoding)
    assert before.tokens != after.tokens
    options = nd.Evaluation(
        detectors=("length:1",), decoding=decoding, neutral=2, perplexity=1, questions=1, over_refusal=0,
        divergence_tokens=2, development=2,
    )  # fmt: skip
    report = nd.evaluate(subject, [nd.Scale(circuit)], PAIRS, options=options)
    assert [condition.metrics["margin"].value < 0 for condition in report.conditions] == [False, True]
    folder = nd.export_circuit(subject, nd.Scale(circuit), route="lora", output=tmp_path / "lora")
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()
    assert folder is not None


def test_what_makes_no_sense_is_refused(subject, find):
    for options, text in (
        ({"candidates": 0}, "number of candidates is 0"),
        ({"layers": 0.0}, "share of the layers is 0"),
        ({"budget": -1.0}, "budget is -1"),
        ({"passages": 0}, "passages is 0"),
    ):
        with pytest.raises(OptionError, match=text):
            nd.Single(**options)
    with pytest.raises(OptionError, match="single got one contrast"):
        nd.discover(subject, PAIRS.discovery, method=nd.Single())
    with pytest.raises(OptionError, match="takes one neuron"):
        nd.discover(subject, PAIRS, method=nd.Single(), select=nd.Count(2))
    assert "comes to" in find(budget=None, margin_target=-1e3).origin.report.shortfall


def test_it_is_a_method_by_name():
    assert method("single") == METHODS["single"]() == nd.Single()
    assert with_select(nd.Dose(), nd.Count(3)).select == nd.Count(3)
