"""A planted pair of models in the studio: vectors of a circuit, a neuron and a token in words, each with its score."""

import re
from dataclasses import replace

import pytest
import torch
from tests.nla.pairs import write_pair
from tests.studio.conftest import ADDRESS, CheckedClient, finished, small_circuit

from neurodial.cli.nla_options import vector_wording
from neurodial.explain.vector_section import VectorWording
from neurodial.model.tiny import tiny_subject
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import read_pair
from neurodial.studio.app import create_app
from neurodial.studio.collection import Collection
from neurodial.studio.jobs import JobQueue
from neurodial.studio.studio_state import StudioState

NEURON = {"circuit": "polite", "layer": 1, "index": 3, "prompts": "formality"}
WHOLE = {"circuit": "polite", "prompts": "formality"}
SURE = Verbalising(samples=2, max_tokens=40, temperature=0.0, reference=8)


@pytest.fixture(scope="module")
def wording(tmp_path_factory) -> VectorWording:
    folders = write_pair(tmp_path_factory.mktemp("planted"), planted=True)
    made = vector_wording(read_pair(folders.verbaliser, folders.reconstructor), "neutral")
    assert made is not None
    return replace(made, options=SURE)


@pytest.fixture
def subject(wording):
    """A model whose neuron 3 of layer 1 writes the vector that the pair calls pears."""
    made = tiny_subject(num_hidden_layers=3)
    vectors = torch.randn(2, made.hidden_size, generator=torch.Generator().manual_seed(3))  # those of the pair
    with torch.no_grad():
        made.model.model.layers[1].mlp.down_proj.weight[:, 3] = vectors[0]
    return made


@pytest.fixture
def studio(tmp_path, subject, wording):
    queue = JobQueue()
    collection = Collection(tmp_path / "studio", {"polite": small_circuit(subject)})
    yield StudioState(subject, collection, queue, autoencoder=wording)
    queue.close()


@pytest.fixture
def client(studio):
    with CheckedClient(create_app(studio), base_url=ADDRESS) as found:
        found.jobs = studio.queue
        yield found


def rows(html):
    """The rows of every table in words: variance explained, cosine, text, under the table's caption."""
    found = {}
    for caption, body in re.findall(r"<caption>(.*?)</caption>(.*?)</table>", html, re.DOTALL):
        cells = [
            re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
        ]
        found[caption] = [[re.sub(r"<[^>]+>", "", cell).strip() for cell in row] for row in cells if row]
    return found


def test_a_neurons_vector_is_said_with_its_score(client, studio):
    plain = finished(studio, client.post("/api/neurons", json=NEURON)).value
    assert plain.pair == "av, block 1"
    assert not plain.has_vectors
    assert "in words" not in plain.html
    job = finished(studio, client.post("/api/neurons", json={**NEURON, "vectors": True}))
    assert job.state == "done", job.error
    assert client.get(f"/api/jobs/{job.number}/result").json()["vectors"]
    tables = rows(job.value.html)
    own, at_place, writes, change = tables
    assert own.startswith("what a unit of the neuron&#39;s activation writes: variance explained 1.00")
    assert tables[own][:2] == [["1", "1", "pears"]] * 2
    assert at_place.startswith("the activation where it fires strongest, token ")
    assert writes.startswith("what the circuit writes: ")
    assert change.startswith("steered less unsteered at dial 1")
    for caption, listed in tables.items():
        assert [row[-1] for row in listed[-2:]] == ["(words of another activation)", "(the mean)"], caption
        assert all(score != "–" for score, _, text in listed if text), caption
    known = finished(studio, client.post("/api/neurons", json=NEURON))
    assert known.value.has_vectors, "an earlier page's"
    assert known.steps.view() == []
    other = finished(studio, client.post("/api/neurons", json={**NEURON, "index": 7})).value
    assert not other.has_vectors


def test_a_circuit_as_a_whole_and_a_token_of_a_prompt(client, studio):
    plain = finished(studio, client.post("/api/wholes", json=WHOLE))
    assert plain.state == "done", plain.error
    for words in ("What polite does as a whole", "Where the circuit drives", "holds down", "AUROC of the drive"):
        assert words in plain.value.html, words
    job = finished(studio, client.post("/api/wholes", json={**WHOLE, "prompt": "Who won the game?", "at": "last, -3"}))
    assert job.state == "done", job.error
    tables = rows(job.value.html)
    last, before, *circuits = tables
    assert re.match(r"token \d+ .*variance explained|token \d+ .*no text", last)
    assert re.match(r"token \d+ ", before)
    assert [caption.split(":")[0].split(" at ")[0] for caption in circuits] == [
        "what the circuit writes", "steered less unsteered",
    ]  # fmt: skip
    without = finished(studio, client.post("/api/wholes", json={**WHOLE, "vectors": True})).value
    assert list(rows(without.html)) == circuits


def test_no_activation_of_a_harmful_prompt_is_said_unless_asked_for(client, studio):
    request = {**NEURON, "layer": 0, "index": 7, "prompts": "refusal", "vectors": True}  # strongest in a harmful prompt
    hidden, shown = (
        finished(studio, client.post("/api/neurons", json={**request, "show_harmful": is_shown})).value.html
        for is_shown in (False, True)
    )
    note = "the activation in words is that of its strongest place outside harmful prompts"
    assert note in hidden
    assert note not in shown
    assert list(rows(hidden))[1] != list(rows(shown))[1]


def test_what_makes_no_sense_is_said_before_anything_runs(client, studio):
    refused = client.post("/api/wholes", json={**WHOLE, "prompt": "Hi", "at": "first"}).json()["error"]
    assert "The position is 'first'" in refused["problem"]
    beyond = finished(studio, client.post("/api/wholes", json={**WHOLE, "prompt": "Hi", "at": "900"}))
    assert beyond.error["problem"].endswith("has no token 900.")
    bare = replace(studio, autoencoder=None)
    with CheckedClient(create_app(bare), base_url=ADDRESS) as other:
        for address, asked in (("neurons", NEURON), ("wholes", WHOLE)):
            error = other.post(f"/api/{address}", json={**asked, "vectors": True}).json()["error"]
            assert "without a pair" in error["problem"]
            assert "--verbaliser" in error["fix"]
