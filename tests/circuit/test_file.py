"""Circuit files: what is written comes back, what is damaged is refused, and old files stay readable."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.circuit.strategies import MODEL, whole_circuits

from neurodial.circuit.circuit import Circuit, Origin, Row, Stability
from neurodial.circuit.file import FORMAT, VERSION, circuit_json, parse_circuit, read_circuit, write_circuit
from neurodial.circuit.report import (
    CostReport,
    DoseReport,
    Goal,
    Measured,
    NeutralAnswers,
    Predicted,
    Reached,
    TrialReport,
)
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitFileError, FileError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CIRCUIT = Circuit.of(
    [Row(Neuron(0, None, 1), 1.5, 1.0), Row(Neuron(2, None, 7), -0.25, 0.5)],
    name="refusal",
    origin=Origin(model=MODEL, method={"kind": "CNA"}, versions={"torch": "2"}, created="2026-01-01T00:00:00+00:00"),
    stability=Stability((1.0, 0.5), (1.0, 0.5)),
)


# ------------------------------------------------------------------------------------------- there and back


@given(circuit=whole_circuits())
def test_what_is_written_comes_back(tmp_path_factory, circuit):
    path = tmp_path_factory.mktemp("files") / "a.circuit.json"
    assert write_circuit(circuit, path) == path
    assert read_circuit(path) == circuit


@given(circuit=whole_circuits())
def test_the_text_of_a_file_is_that_of_its_circuit_and_no_other(circuit):
    text = circuit_json(circuit)
    assert circuit_json(parse_circuit(json.loads(text), place="here")) == text
    assert circuit_json(circuit.with_doses(0.125)) != text or all(row.dose == 0.125 for row in circuit)


def test_methods_of_a_circuit_write_and_read(tmp_path):
    path = tmp_path / "a.circuit.json"
    CIRCUIT.write(str(path))
    assert Circuit.read(str(path)) == CIRCUIT
    with pytest.raises(FileError, match="exists already"):
        CIRCUIT.write(path)
    CIRCUIT.top(1).write(path, overwrite=True)
    assert Circuit.read(path) == CIRCUIT.top(1)


def test_a_file_is_for_people_too():
    """Neurons as columns, one value a line, letters as they are."""
    value = json.loads(circuit_json(CIRCUIT))
    assert (value["format"], value["version"]) == (FORMAT, 1)
    assert value["neurons"] == {
        "layer": [0, 2],
        "expert": [None, None],
        "index": [1, 7],
        "score": [1.5, -0.25],
        "dose": [1.0, 0.5],
    }
    assert '"name": "réfus"' in circuit_json(Circuit.of([], name="réfus"))


# ------------------------------------------------------------------------------------------- files that outlive code


def test_a_file_of_version_1_is_read_as_ever():
    """Never write this file again: it stands for those that users have. A new version gets a file of its own."""
    circuit = read_circuit(GOLDEN / "circuit-v1.json")
    assert (circuit.name, circuit.direction, len(circuit)) == ("golden", "remove", 4)
    assert circuit.rows[0] == Row(Neuron(0, None, 8), 0.7661762634913125, 1.0)
    assert circuit.origin.model is not None
    assert circuit.origin.model.family == "llama"
    assert circuit.origin.model.widths == (24, 24)
    assert circuit.origin.method["kind"] == "CNA"
    assert circuit.origin.universal is not None
    assert circuit.stability is not None
    assert len(circuit.stability.overlaps) == 3
    assert len(circuit.stability.kept) == len(circuit)


def test_a_file_of_version_3_holds_routed_experts():
    """Never write this file again, either."""
    circuit = read_circuit(GOLDEN / "circuit-v3.json")
    assert circuit.origin.model is not None
    assert circuit.origin.model.widths == (24, 12)
    assert circuit.origin.model.experts == (None, (4, 12))
    assert [(row.neuron.expert is None, row.visits is None) for row in circuit] == [(True, True)] * 2 + [
        (False, False)
    ] * (len(circuit) - 2)
    assert all(0 <= count <= 6 for row in circuit for count in row.visits or ())


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_file_of_each_version_is_written_as_ever(version):
    """A change of the text without a new version would part files that claim to be alike."""
    path = GOLDEN / f"circuit-v{version}.json"
    assert f'"version": {version},' in path.read_text(encoding="utf-8")
    assert circuit_json(read_circuit(path)) == path.read_text(encoding="utf-8")


REPORT = DoseReport(
    margin="Openers",
    neutral=NeutralAnswers("neutral", "0" * 64, 12, 1),
    cost=CostReport(100, 0.2),
    goal=Goal(0.05, None, reached=True),
    predicted=Predicted(-2.0, -1.0, 0.02),
    measured=Measured(1.0, -1.0, -2.0, 0.5, 0.25, 0.04, 0.001, 90, reference_before=-1.5, reference=-1.25),
    trials=(TrialReport(0.1, 0.02, 0.5, 0.75, 1.5, degenerate=0.0),),
    openers=("No",),
    coverage={"positive": 0.5, "negative": None},
    signs={"both": Reached(-1.0, 0.04)},
)


def test_a_report_is_written_only_where_there_is_one():
    """It came after version 1, whose files have none."""
    assert "report" not in json.loads(circuit_json(CIRCUIT))
    measured = dataclasses.replace(CIRCUIT, origin=dataclasses.replace(CIRCUIT.origin, report=REPORT))
    assert parse_circuit(json.loads(circuit_json(measured)), place="here").origin.report == REPORT


# ------------------------------------------------------------------------------------------- what is refused


def changed(**changes: object) -> dict[str, Any]:
    """The file's value with some places set, named as in `neurons__layer`; `...` takes one out."""
    value: dict[str, Any] = json.loads(circuit_json(CIRCUIT))
    for place, new in changes.items():
        *parents, last = place.split("__")
        inner = value
        for parent in parents:
            inner = inner[parent]
        if new is ...:
            del inner[last]
        else:
            inner[last] = new
    return value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": ...}, "not a circuit file"),
        ({"format": "someone.elses"}, "not a circuit file"),
        ({"version": ...}, "version: Field required"),
        ({"version": 0}, "version: Input should be 1, 2 or 3"),
        ({"version": "1"}, "version: Input should be 1, 2 or 3"),
        ({"name": ...}, "name: Field required"),
        ({"direction": "sideways"}, "direction: Input should be 'remove' or 'induce'"),
        ({"model": "llama"}, "model: Input should be"),
        ({"model__digest": ...}, r"model\.digest: Field required"),
        ({"neurons": ...}, "neurons: Field required"),
        ({"neurons__dose": ...}, r"neurons\.dose: Field required"),
        ({"neurons__visits": [[1], None]}, r"neurons\.visits\.0"),
        ({"neurons__visits": [[1, -1], None]}, r"neurons\.visits\.0\.1: Input should be greater"),
        ({"neurons__expert": [None, 1]}, r"its model has no Neuron\(layer=2, expert=1, index=7\)"),
        ({"neurons__note": []}, r"neurons\.note: Extra inputs"),
        ({"neurons__layer": [0]}, "columns of neurons differ in length"),
        ({"neurons__layer": [2, 0], "neurons__index": [7, 1]}, "neurons are not in order"),
        ({"neurons__layer": [0, 0], "neurons__index": [1, 1]}, "A neuron is listed twice"),
        ({"neurons__layer": [0, "2"]}, r"neurons\.layer\.1: Input should be a valid integer"),
        ({"neurons__index": [-1, 7]}, r"neurons\.index\.0: Input should be greater than or equal to 0"),
        ({"neurons__index": [1, 8]}, r"its model has no Neuron\(layer=2, expert=None, index=8\)"),
        ({"neurons__layer": [0, 3]}, r"its model has no Neuron\(layer=3, expert=None, index=7\)"),
        ({"neurons__score": [None, 1]}, r"neurons\.score\.0: Input should be a valid number"),
        ({"neurons__score": [True, 1]}, r"neurons\.score\.0: Input should be a valid number"),
        ({"stability__kept": [1.0]}, r"stability\.kept is not of one number for each neuron"),
        ({"stability__overlaps": []}, r"stability\.overlaps: Tuple should have at least 1"),
    ],
)
def test_a_damaged_file_is_refused_by_its_place(tmp_path, changes, said):
    path = tmp_path / "bad.circuit.json"
    path.write_text(json.dumps(changed(**changes)), encoding="utf-8")
    with pytest.raises(CircuitFileError, match=said) as caught:
        read_circuit(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_undamaged_file_is_taken():
    assert parse_circuit(changed(), place="here") == CIRCUIT


@pytest.mark.parametrize("version", [VERSION + 1, 99])
def test_a_file_of_a_later_version_is_refused(version):
    with pytest.raises(CircuitFileError, match=rf"here has version {version}.*Update neurodial"):
        parse_circuit(changed(version=version), place="here")


def test_a_condition_that_is_damaged_or_of_another_version_is_refused():
    value = json.loads((GOLDEN / "circuit-v2.json").read_text(encoding="utf-8"))
    with pytest.raises(CircuitFileError, match="condition: A condition has 1 weights"):
        parse_circuit({**value, "condition": {**value["condition"], "weights": [1.0]}}, place="here")
    with pytest.raises(CircuitFileError, match="version 1 with a condition"):
        parse_circuit({**value, "version": 1}, place="here")
    with pytest.raises(CircuitFileError, match="version 2 without a condition"):
        parse_circuit(changed(version=2), place="here")


@pytest.mark.parametrize("value", [[], None, 3, "text", {}])
def test_other_json_is_not_a_circuit_file(value):
    with pytest.raises(CircuitFileError, match="here is not a circuit file"):
        parse_circuit(value, place="here")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("place", ["method", "neurons"])
def test_a_number_that_is_none_is_refused_wherever_it_stands(tmp_path, number, place):
    value = changed(method={"x": "HERE"}) if place == "method" else changed(neurons__score=["HERE", 1.0])
    path = tmp_path / "bad.circuit.json"
    path.write_text(json.dumps(value).replace('"HERE"', number), encoding="utf-8")
    with pytest.raises(CircuitFileError, match=f"not JSON: {number} is no number"):
        read_circuit(path)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"9" * 5_000, b"\xff\xfe", b"PK\x03\x04"])
def test_what_is_not_json_is_refused(tmp_path, content):
    path = tmp_path / "bad.circuit.json"
    path.write_bytes(content)
    with pytest.raises(CircuitFileError, match=r"bad\.circuit\.json is not JSON"):
        read_circuit(path)


@settings(max_examples=50)
@given(cut=st.integers(0, len(circuit_json(CIRCUIT)) - 3))
def test_a_file_that_was_cut_off_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("files") / "bad.circuit.json"
    path.write_text(circuit_json(CIRCUIT)[:cut], encoding="utf-8")
    with pytest.raises(CircuitFileError, match="Was it cut off"):
        read_circuit(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "gone.circuit.json", tmp_path):
        with pytest.raises(FileError, match=r"can't be read.*a \.circuit\.json file"):
            read_circuit(path)
