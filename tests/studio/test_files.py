"""What has a name and goes out as a file, and what comes in as one; and the views over several circuits and runs."""

import json

import pytest
from tests.studio.conftest import finished, small_circuit
from tests.studio.contract import TYPES, declared, misfits

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.file import circuit_json
from neurodial.circuit.site import Neuron
from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.results import ConditionResult, Report, report_json
from neurodial.model.demo import organism_path
from neurodial.model.tiny import tiny_subject
from neurodial.studio.collection import Collection
from neurodial.studio.ready_circuits import ready_circuits, ready_files

HI = [{"role": "user", "content": "Hi"}]
STRIP = {"moved": "polite", "dials": [0.0, 1.0], "texts": ["one", "two"]}
TURN = {"prompt": "Hi", "unsteered": "a <b>", "steered": "c", "strip": STRIP}
SAID = {
    "name": "First try",
    "settings": {"system": "Be brief.", "seed": 3},
    "circuits": [{"id": "polite", "dial": 0.5, "off": [[0, 3]]}],
    "turns": [TURN],
}


def opened(client, text, name="shared.json"):
    return client.post("/api/open", json={"name": name, "text": text})


def small_report(rate, *, prompts="same"):
    """A report of one circuit whose answers show the behaviour so often."""

    def condition(key, dial, value):
        shown = Estimate(value, value - 0.1, value + 0.1, 50, "Wilson")
        return ConditionResult(key, key, dial, details={}, metrics={"rate:refusal": shown}, differences={})

    conditions = [condition("unsteered", 0.0, 0.8), condition("polite", 1.0, rate)]
    return Report(
        "refusal", {"refusal": "Our rule."}, tuple(conditions), provenance={"test_prompts": prompts, "counts": {}}
    )


# ------------------------------------------------------------------------------------------- several dials


def test_a_strip_answers_at_each_dial_as_the_chat_does(client, studio):
    request = {"chat": HI, "circuits": [{"id": "polite", "dial": 9}], "moved": "polite", "dials": [0, 3], "seed": 1}
    job = finished(studio, client.post("/api/strips", json={**request, "max_new_tokens": 6}))
    plain, steered = (column["text"] for column in job.value["columns"])
    answer = {"unsteered": HI, "steered": HI, "circuits": [{"id": "polite", "dial": 3}], "max_new_tokens": 6, "seed": 1}
    both = finished(studio, client.post("/api/answers", json=answer)).value
    assert (plain, steered) == (both["unsteered"]["text"], both["steered"]["text"])
    assert plain != steered
    assert job.value["columns"][0]["kl"] == 0
    types = declared(TYPES.read_text(encoding="utf-8"))
    assert [misfits(event, "ColumnToken", types) for event in job.events[:-1]] == [[]] * (len(job.events) - 1)
    assert {event["column"] for event in job.events[:-1]} == {0, 1}
    assert misfits(job.events[-1], "StripEvent", types) == []
    assert job.steps.view()[0]["done"] == 2


def test_a_strip_moves_one_circuit_and_leaves_the_others(client, studio):
    studio.collection.save_circuit(small_circuit(studio.subject, name="other", scale=-1.0))
    turned = [{"id": "polite", "dial": 1}, {"id": "other", "dial": 2}]
    request = {"chat": HI, "circuits": turned, "moved": "polite", "dials": [1], "max_new_tokens": 4}
    [column] = finished(studio, client.post("/api/strips", json=request)).value["columns"]
    answer = {"unsteered": HI, "steered": HI, "circuits": turned, "max_new_tokens": 4}
    assert column["text"] == finished(studio, client.post("/api/answers", json=answer)).value["steered"]["text"]
    refused = client.post("/api/strips", json={**request, "moved": "nothing"})
    assert "has no dial" in refused.json()["error"]["problem"]
    assert client.post("/api/strips", json={**request, "dials": []}).status_code == 422


# ------------------------------------------------------------------------------------------- conversations


def test_a_conversation_has_a_name_and_comes_back(client):
    name = client.post("/api/conversations", json=SAID).json()["id"]
    assert name == "first-try"
    found = client.get(f"/api/conversations/{name}").json()
    assert (found["name"], found["turns"], found["circuits"]) == ("First try", [TURN], SAID["circuits"])
    assert (found["settings"]["system"], found["settings"]["length"]) == ("Be brief.", 128)
    again = client.post("/api/conversations", json={**SAID, "id": name, "name": "Renamed", "turns": []}).json()
    assert again == {"id": name}, "a new name, the same conversation"
    [listed] = client.get("/api/conversations").json()
    assert (listed["id"], listed["name"], listed["turns"]) == (name, "Renamed", 0)
    assert listed["created"] == found["created"]
    client.delete(f"/api/conversations/{name}")
    assert client.get("/api/conversations").json() == []
    assert client.get(f"/api/conversations/{name}").status_code == 404


def test_a_conversation_goes_to_another_studio_with_its_circuits(client, studio):
    name = client.post("/api/conversations", json=SAID).json()["id"]
    sent = client.get(f"/api/conversations/{name}/file")
    assert "first-try.conversation.json" in sent.headers["content-disposition"]
    own = opened(client, sent.text).json()
    assert (own["kind"], own["notes"]) == ("conversation", [])
    assert [one.id for one in studio.collection.circuits()] == ["polite"], "the very circuit is there already"
    studio.collection._given.clear()
    other = opened(client, sent.text).json()["id"]
    [saved] = studio.collection.circuits()
    assert saved.circuit.rows == small_circuit().rows
    assert client.get(f"/api/conversations/{other}").json()["circuits"][0] == {**SAID["circuits"][0], "id": saved.id}


def test_a_circuit_of_another_model_is_left_out_and_said(client, studio):
    elsewhere = small_circuit(tiny_subject(seed=5), name="elsewhere")
    name = client.post("/api/conversations", json=SAID).json()["id"]
    value = json.loads(client.get(f"/api/conversations/{name}/file").text)
    value["circuits"][0]["circuit"] = json.loads(circuit_json(elsewhere))
    value["model"] = "another"
    found = opened(client, json.dumps(value)).json()
    assert "held with another" in found["notes"][0]
    assert found["notes"][1].startswith("Left out: The circuit 'elsewhere' was made on")
    assert client.get(f"/api/conversations/{found['id']}").json()["circuits"] == []
    assert opened(client, circuit_json(elsewhere)).status_code == 400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: "{", "shared.json is not JSON"),
        (lambda value: "[1]", "no file of neurodial"),
        (lambda value: {**value, "format": "other"}, "no file of neurodial"),
        (lambda value: {**value, "version": 2}, "conversation of version 2"),
        (lambda value: {**value, "turns": [{"prompt": 3}]}, "no whole conversation: turns.0.prompt"),
        (lambda value: {**value, "surprise": 1}, "no whole conversation: surprise"),
        (lambda value: {key: item for key, item in value.items() if key != "model"}, "no whole conversation: model"),
        (lambda value: {**value, "settings": {"temperature": float("nan")}}, "NaN is no JSON number"),
        (lambda value: {"format": "neurodial.circuit", "version": 1}, "shared.json"),
        (lambda value: {"format": "neurodial.run", "version": 1, "parts": {"../evil": {}}}, "no whole run"),
        (lambda value: {"format": "neurodial.run", "version": 1, "parts": {"report": {}}}, "report is no report"),
        (lambda value: {"format": "neurodial.run", "version": 7, "parts": {}}, "run of version 7"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_in_words(client, studio, change, words):
    name = client.post("/api/conversations", json=SAID).json()["id"]
    value = change(json.loads(client.get(f"/api/conversations/{name}/file").text))
    response = opened(client, value if isinstance(value, str) else json.dumps(value))
    assert response.status_code == 400
    error = response.json()["error"]
    assert words in error["problem"]
    assert error["wanted"] or error["fix"], "it says what to do"
    assert len(client.get("/api/conversations").json()) == 1, "nothing of it was kept"
    assert studio.collection.reports() == []


# ------------------------------------------------------------------------------------------- circuits


def test_a_circuit_goes_out_and_comes_in(client, studio):
    sent = client.get("/api/circuits/polite/file")
    assert sent.text == circuit_json(studio.collection.circuit("polite"))
    assert opened(client, sent.text).json() == {"kind": "circuit", "id": "polite", "notes": []}
    other = Circuit.of([Row(Neuron(0, None, 1), 2.0, 0.5)], name="by hand")
    assert opened(client, circuit_json(other)).json()["id"] == "by-hand"
    assert client.get("/api/circuits/by-hand").json()["circuit"]["neurons"] == 1


def test_doses_of_several_circuits(client, studio):
    studio.collection.save_circuit(Circuit.of([Row(Neuron(0, None, 3), 2.0, -0.5)], name="other"))
    found = client.get("/api/doses/polite,other").json()
    assert [circuit["id"] for circuit in found["circuits"]] == ["polite", "other"]
    assert found["rows"][0] == [0, 3, [1.3, -0.5]]
    assert found["rows"][1] == [0, 7, [1.7, None]]
    assert found["widths"] == list(studio.subject.widths)
    assert client.get("/api/doses/polite,nothing").status_code == 404
    studio.collection.save_circuit(Circuit.of([Row(Neuron(99, None, 3), 2.0, 1.0)], name="large"))
    assert "layer 99, index 3" in client.get("/api/doses/large").json()["error"]["problem"]


def test_ready_circuits_come_with_the_package_and_only_for_their_model(tmp_path):
    assert ready_circuits(tiny_subject()) == {}
    assert len(ready_files()) >= 2
    assert sum(path.stat().st_size for path in ready_files()) < 60_000
    assert organism_path().is_dir()
    collection = Collection(tmp_path, {"mine": small_circuit()}, {"mine": Circuit.of([]), "theirs": small_circuit()})
    assert [(one.id, one.origin) for one in collection.circuits()] == [("mine", "command"), ("theirs", "ready")]
    assert len(collection.circuit("mine")) == 6, "what the user gave goes before"


@pytest.mark.parametrize(("name", "source"), [("refusal", "dose"), ("refusal-cna", "cna")])
def test_the_demos_circuits_are_those_of_its_report(name, source):
    [ready] = [path for path in ready_files() if path.name == f"{name}.circuit.json"]
    made = TYPES.parents[4] / "docs" / "results" / "demo" / f"{source}.circuit.json"
    assert ready.read_bytes() == made.read_bytes(), "copy the demo's circuit here when the demo is run again"


# ------------------------------------------------------------------------------------------- runs


def test_a_run_has_a_name_goes_out_and_comes_in(client):
    text = report_json(small_report(0.2))
    first = opened(client, text, "before.json").json()
    assert first["kind"] == "run"
    run = first["id"]
    assert client.post(f"/api/reports/{run}/name", json={"name": "Before training"}).json() == {"id": run}
    assert client.post("/api/reports/nothing/name", json={"name": "x"}).status_code == 404
    sent = client.get(f"/api/reports/{run}/file").text
    assert json.loads(sent)["name"] == "Before training"
    copy = opened(client, sent).json()["id"]
    assert {entry["id"]: entry["name"] for entry in client.get("/api/reports").json()} == {
        run: "Before training",
        copy: "Before training",
    }
    one, other = (client.get(f"/api/reports/{name}/report").json() for name in (run, copy))
    assert one["conditions"] == other["conditions"]
    assert one["name"] == "Before training"
    assert "<h1>" in client.get(f"/api/reports/{copy}/report/page").text


def test_two_runs_are_compared_as_the_command_compares_them(client):
    first = opened(client, report_json(small_report(0.2)), "before.json").json()["id"]
    second = opened(client, report_json(small_report(0.7)), "after.json").json()["id"]
    third = opened(client, report_json(small_report(0.7, prompts="others")), "other.json").json()["id"]
    address = f"/api/comparisons/{first}/report/{second}/report"
    found = client.get(address).json()
    assert found["names"] == ["before.json", "after.json"]
    numbers = {number["label"]: number for number in found["numbers"]}
    assert numbers["polite"]["difference"]["value"] == pytest.approx(0.5)
    assert numbers["polite"]["clear"]
    assert not numbers["unsteered"]["clear"]
    assert found["metrics"]["rate:refusal"]["is_share"]
    assert "differ beyond chance" in found["summary"]
    page = client.get(f"{address}/page")
    assert page.headers["content-security-policy"].startswith("sandbox;")
    assert "before.json against after.json" in page.text
    apart = client.get(f"/api/comparisons/{first}/report/{third}/report").json()
    assert not apart["same_prompts"]
    assert all(number["difference"] is None for number in apart["numbers"])
    assert [change[0] for change in apart["changes"]] == ["provenance test_prompts"]
    assert client.get(f"/api/comparisons/{first}/report/nothing/report").status_code == 404
