"""Circuit files of earlier versions of the project: their reports are read with the names of today."""

import json
from pathlib import Path

import pytest

from neurodial.circuit.file import circuit_json, parse_circuit, read_circuit
from neurodial.errors import CircuitFileError

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def test_the_report_of_an_older_file_has_the_names_of_today():
    value = json.loads((GOLDEN / "circuit-v1-report.json").read_text(encoding="utf-8"))
    circuit = parse_circuit(value, place="here")
    report = circuit.origin.report
    assert report.follows == value["report"]["push"] == "margin and aim"
    assert report.followed["margin"].margin == value["report"]["pushes"]["margin"]["margin"]
    assert report.measured.reference == value["report"]["measured"]["aim"]
    assert report.neutral.answers is None
    again = parse_circuit(json.loads(circuit_json(circuit)), place="again")
    assert again == circuit


def test_a_report_with_a_field_that_nobody_knows_is_refused_by_its_place():
    value = json.loads((GOLDEN / "circuit-v1-report.json").read_text(encoding="utf-8"))
    value["report"]["surprise"] = 1
    with pytest.raises(CircuitFileError, match=r"report\.surprise"):
        parse_circuit(value, place="here")


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.circuit.json")), ids=lambda path: path.stem)
def test_every_circuit_of_the_results_can_be_read(path):
    circuit = read_circuit(path)
    assert len(circuit) > 0
    assert parse_circuit(json.loads(circuit_json(circuit)), place="again") == circuit
