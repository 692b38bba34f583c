"""What the tests of the server stand on: an oracle without cache or batch, and a real server on a free port."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tests.subjects import circuit_of

import neurodial as nd
from neurodial.generation.generate import stop_tokens
from neurodial.model.subject import Subject
from neurodial.serve.address import listen
from neurodial.serve.api import application
from neurodial.serve.engine import Engine
from neurodial.serve.names import ModelNames, ServedCircuit
from neurodial.serve.options import EngineOptions, ServerOptions
from neurodial.serve.prometheus import Metrics
from neurodial.serve.request import Event, Finished, Piece, Request
from neurodial.serve.run import Server

TIE = 1e-4
"""Logits (float32, of size 10) of a batched and a single pass differ by less than a tenth of this."""


class Oracle(NamedTuple):
    """A greedy answer made without cache and batch, and at each token the distance of the two largest logits."""

    tokens: list[int]
    gaps: list[float]

    def check(self, tokens: Sequence[int]) -> int:
        """Assert that tokens are the oracle's, or part from them first where two logits tie; how many agreed."""
        for place, (got, wanted, gap) in enumerate(zip(tokens, self.tokens, self.gaps, strict=False)):
            if got != wanted:
                assert gap < TIE, f"token {place} is {got}, not {wanted}, which led by {gap:.3g}"
                return place
        assert len(tokens) == len(self.tokens)
        return len(tokens)


@torch.no_grad()
def oracle(subject: Subject, prompt: Sequence[int], scales: Sequence[nd.Scale], max_tokens: int) -> Oracle:
    """One token after the other, each by a whole pass of everything before it."""
    sequence, gaps = list(prompt), []
    with nd.steer(subject, *scales):
        while len(gaps) < max_tokens:
            best = subject.model(torch.tensor([sequence]), use_cache=False).logits[0, -1].topk(2)
            gaps.append(float(best.values[0] - best.values[1]))
            sequence.append(int(best.indices[0]))
            if sequence[-1] in stop_tokens(subject):
                break
    return Oracle(sequence[len(prompt) :], gaps)


def two_circuits(subject: Subject) -> dict[str, nd.Circuit]:
    """Two circuits that share neurons."""
    return {"polite": circuit_of(subject, 12), "terse": circuit_of(subject, 8, dose=0.5)}


def scales(circuits: dict[str, nd.Circuit], dials: Sequence[float]) -> list[nd.Scale]:
    return [nd.Scale(circuit, dial=dial) for circuit, dial in zip(circuits.values(), dials, strict=True)]


def text_of(events: Sequence[Event]) -> str:
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, Piece))


def tokens_of(events: Sequence[Event]) -> list[int]:
    """The tokens of an answer that was asked for with `top`."""
    return [entry.token for event in events if isinstance(event, Piece) for entry in event.scored]


def asked(prompt: Sequence[int], *dials: float, **fields: object) -> Request:
    return Request(tokens=tuple(prompt), dials=tuple(map(float, dials)), **{"top": 0, "max_tokens": 12, **fields})


@dataclass
class Live:
    """A server that runs."""

    url: str
    engine: Engine
    metrics: Metrics
    server: Server
    thread: threading.Thread


@contextmanager
def live(
    subject: Subject,
    circuits: dict[str, nd.Circuit] | None = None,
    *,
    engine: EngineOptions | None = None,
    options: ServerOptions | None = None,
) -> Iterator[Live]:
    """A server on a free port of this machine, in a thread."""
    circuits = two_circuits(subject) if circuits is None else circuits
    options = options or ServerOptions(grace=2.0)
    model_names = ModelNames(
        "tiny", {name: ServedCircuit(circuit) for name, circuit in circuits.items()}, options.max_dial
    )
    metrics = Metrics()
    with listen("127.0.0.1", 0) as listening, Engine(subject, circuits, engine, on_pass=metrics.passed) as running:
        server = Server(application(running, model_names, options, metrics), running, grace=options.grace)
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Live(f"http://127.0.0.1:{listening.getsockname()[1]}", running, metrics, server, thread)
        finally:
            server.should_exit = True
            thread.join()


def until(condition: object, seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
