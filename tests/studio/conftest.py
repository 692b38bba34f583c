"""A studio with a tiny model, and a client that talks to its app as the page does."""

import pytest
from fastapi.testclient import TestClient
from tests.studio.contract import TYPES, answer_type, declared, misfits

from neurodial.circuit.circuit import Circuit, Origin, Row, Stability
from neurodial.circuit.site import Neuron
from neurodial.model.tiny import tiny_subject
from neurodial.studio.app import create_app
from neurodial.studio.collection import Collection
from neurodial.studio.jobs import JobQueue
from neurodial.studio.studio_state import StudioState

ADDRESS = "http://127.0.0.1:8421"


def small_circuit(subject=None, *, name="polite", scale=1.0):
    """Six neurons of a tiny model, doses of both signs."""
    rows = [
        Row(Neuron(layer, None, index), scale * (index - 9), 1.0 + index / 10)
        for layer in (0, 1)
        for index in (3, 7, 11)
    ]
    origin = Origin(
        model=None if subject is None else subject.identity,
        method={"kind": "CNA", "score": "delta", "position": {"kind": "Last"}},
        prompts={"positive": 60, "negative": 60},
        universal={"flagged": 2, "would_have_been_chosen": [[1, None, 5]]},
        created="2026-01-01T00:00:00+00:00",
    )
    return Circuit.of(rows, name=name, origin=origin, stability=Stability((1.0, 0.5), (1.0, 0.5, 1.0, 1.0, 1.0, 0.5)))


@pytest.fixture
def studio(tmp_path):
    subject = tiny_subject()
    queue = JobQueue()
    yield StudioState(subject, Collection(tmp_path / "studio", {"polite": small_circuit(subject)}), queue)
    queue.close()


class CheckedClient(TestClient):
    """A client that holds every answer against the type that the page's code is checked with."""

    types = declared(TYPES.read_text(encoding="utf-8"))
    jobs: JobQueue

    def request(self, method, url, **options):
        response = super().request(method, url, **options)
        path = response.request.url.path
        if response.headers.get("content-type") == "application/json" and path.startswith("/api/"):
            kind = answer_type(method, path, self._kind_of(path)) if response.status_code == 200 else "Refusal"
            is_known = kind is not None and "detail" not in response.json()  # the framework's own: no such address
            assert not is_known or misfits(response.json(), kind, self.types) == [], f"{method} {path} gives no {kind}"
        return response

    def _kind_of(self, path):
        number = path.removeprefix("/api/jobs/").removesuffix("/result")
        job = self.jobs.find(int(number)) if number.isdigit() else None
        return job and job.kind


@pytest.fixture
def client(studio):
    with CheckedClient(create_app(studio), base_url=ADDRESS) as found:
        found.jobs = studio.queue
        yield found


def finished(studio, response):
    """The job that a response speaks of, when it is over."""
    assert response.status_code == 200, response.text
    job = studio.queue.find(response.json()["id"])
    studio.queue.wait(job, 10**9, seconds=60.0)
    assert job.is_over
    return job
