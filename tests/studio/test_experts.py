"""The studio with a mixture of experts: a map by layer and expert, doses, and dials that turn."""

import base64

import numpy as np
import pytest
from tests.studio.conftest import CheckedClient, finished
from tests.studio.test_app import HI, PASTED

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError
from neurodial.model.tiny import tiny_subject
from neurodial.studio.app import create_app
from neurodial.studio.collection import Collection
from neurodial.studio.jobs import JobQueue
from neurodial.studio.studio_state import StudioState
from neurodial.studio.views import circuit_view, neuron_of, page_name

ROWS = [Row(Neuron(0, None, 3), 1.0, 1.0), Row(Neuron(0, 2, 5), 3.0, 2.0), Row(Neuron(1, 3, 11), -2.0, 1.0)]


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    subject = tiny_subject("qwen2_moe")
    circuit = Circuit.of(ROWS, name="mixed", origin=Origin(model=subject.identity))
    queue = JobQueue()
    yield StudioState(subject, Collection(tmp_path_factory.mktemp("studio"), {"mixed": circuit}), queue)
    queue.close()


@pytest.fixture
def client(studio):
    with CheckedClient(create_app(studio), base_url="http://127.0.0.1:8421") as client:
        client.jobs = studio.queue
        yield client


def test_neurons_are_counted_through_each_layer(studio):
    everything = studio.subject.everything
    names = [page_name(neuron, everything) for neuron in everything.at(range(everything.count))]
    assert names == [[layer, place] for layer in (0, 1) for place in range(20 + 4 * 12)]
    assert [neuron_of(layer, place, everything) for layer, place in names] == everything.at(range(everything.count))


def test_the_pages_of_a_circuit_name_its_experts(client):
    model = client.get("/api/model").json()
    assert (model["widths"], model["experts"]) == ([68, 68], [[20, 12], [20, 12]])
    circuit = client.get("/api/circuits/mixed").json()["circuit"]
    assert [row[:2] for row in circuit["rows"]] == [[0, 3], [0, 20 + 2 * 12 + 5], [1, 20 + 3 * 12 + 11]]
    assert (circuit["layers"], circuit["share"]) == ([2, 1], 3 / 136)
    doses = client.get("/api/doses/mixed").json()
    assert (doses["widths"], doses["rows"][1]) == ([68, 68], [0, 49, [2.0]])
    assert client.get("/api/overlap/mixed/mixed").json()["rows"][2][:2] == [1, 67]


def test_the_map_has_a_row_for_each_expert(client, studio):
    asked = {"prompts": PASTED, "name": "found", "options": {"select": "count:20"}}
    job = finished(studio, client.post("/api/discoveries", json=asked))
    found = client.get(f"/api/jobs/{job.number}/result").json()
    scores = found["scores"]
    assert [(row["layer"], row["expert"]) for row in scores["layers"]] == [
        (layer, expert) for layer in (0, 1) for expert in (None, 0, 1, 2, 3)
    ]
    places = {
        (row["layer"], row["expert"]): np.frombuffer(base64.b64decode(row["index"]), "<u4").tolist()
        for row in scores["layers"]
    }
    assert sorted(place for (layer, _), own in places.items() if layer == 1 for place in own) == list(range(68))
    marked = [[place[0], places[place[0], (*place, None)[2]][place[1]]] for place in scores["chosen"]]
    assert marked == [row[:2] for row in found["circuit"]["rows"]]
    assert any(len(place) == 3 for place in scores["chosen"])


def test_dials_turn_neurons_of_experts_and_single_ones_are_switched_off(client, studio):
    def steered(**turned):
        asked = {
            "unsteered": HI, "steered": HI, "circuits": [{"id": "mixed", "dial": 6.0, **turned}], "max_new_tokens": 6,
        }  # fmt: skip
        job = finished(studio, client.post("/api/answers", json=asked))
        result = client.get(f"/api/jobs/{job.number}/result").json()
        return result["steered"]["kl"]

    rows = [[0, 3], [0, 49], [1, 67]]
    assert steered(off=rows) == 0.0
    assert 0.0 < steered(off=rows[:1]) != steered(off=rows[1:]) > 0.0


def test_a_neuron_of_an_expert_has_its_page_and_a_circuit_of_no_model_no_names(client, studio):
    asked = {"circuit": "mixed", "layer": 0, "index": 49, "prompts": "refusal"}
    job = finished(studio, client.post("/api/neurons", json=asked))
    assert job.state == "done", job.error
    page = client.get(f"/api/jobs/{job.number}/page").text
    for words in ("layer 0, expert 2, neuron 5 of mixed", "strongest, ", "promotes", "up reads"):
        assert words in page, words
    with pytest.raises(CircuitError, match="does not say of which model"):
        circuit_view("mixed", Circuit.of(ROWS, name="mixed"))
