"""What monitoring reads at `/metrics`."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from neurodial.serve.engine import Engine

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self._requests = Counter(
            "neurodial_requests", "Requests by path and HTTP status", ["path", "status"], registry=here
        )
        self._prompt = Counter("neurodial_prompt_tokens", "Tokens of prompts", registry=here)
        self._made = Counter("neurodial_generated_tokens", "Tokens generated", registry=here)
        self._cancelled = Counter("neurodial_cancelled_requests", "Requests whose client went away", registry=here)
        self._latency = Histogram(
            "neurodial_request_seconds", "From arrival to the last token", buckets=_SECONDS, registry=here
        )
        self._first = Histogram(
            "neurodial_first_token_seconds", "From arrival to the first token", buckets=_SECONDS, registry=here
        )
        self._rows = Histogram("neurodial_batch_rows", "Rows of a pass", buckets=_ROWS, registry=here)
        self._waiting = Gauge(
            "neurodial_waiting_requests", "Requests that wait for a place in the batch", registry=here
        )
        self._running = Gauge("neurodial_running_requests", "Requests in the batch", registry=here)
        self._typical = 1.0

    def watch(self, engine: Engine) -> None:
        """Read the gauges from an engine."""
        self._waiting.set_function(lambda: engine.waiting)
        self._running.set_function(lambda: engine.running)

    def passed(self, rows: int) -> None:
        """A pass of so many rows took place."""
        self._rows.observe(rows)

    def answered(self, path: str, status: int) -> None:
        """A request was answered, or refused."""
        self._requests.labels(path, str(status)).inc()

    def began(self, seconds: float) -> None:
        """A request's first token came."""
        self._first.observe(seconds)

    def finished(self, seconds: float, prompt: int, made: int) -> None:
        """A request's last token came."""
        self._latency.observe(seconds)
        self._prompt.inc(prompt)
        self._made.inc(made)
        self._typical += (seconds - self._typical) / 8

    def cancelled(self) -> None:
        """A client went away."""
        self._cancelled.inc()

    def retry_after(self, engine: Engine) -> int:
        """Seconds after which a refused client may find room: the queue, at the pace of late."""
        rounds = (engine.waiting + engine.running) / engine.options.max_batch
        return max(1, min(60, math.ceil(rounds * self._typical)))

    def text(self) -> bytes:
        """Everything in the format of Prometheus."""
        return bytes(generate_latest(self.registry))
