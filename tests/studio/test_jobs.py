"""The queue: one job at a time, in order, cancellable at every step, and nothing it said is lost."""

import threading

import pytest

from neurodial.errors import OptionError
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.model.tiny import tiny_subject
from neurodial.studio.jobs import QUEUE, JobQueue


@pytest.fixture
def queue():
    found = JobQueue()
    yield found
    found.close()


def over(queue, job):
    queue.wait(job, 10**9, seconds=20.0)
    return job.state


@pytest.fixture
def held(queue):
    """A job that runs until it is let go; everything else waits behind it."""
    begun, go = threading.Event(), threading.Event()

    def run(reporter):
        begun.set()
        while not go.wait(0.005):
            reporter.check()

    job = queue.submit("held", "held", run)
    assert begun.wait(5)
    yield job, go
    go.set()


def test_jobs_run_one_at_a_time_and_urgent_ones_first(queue, held):
    order = []
    slow = queue.submit("slow", "", lambda reporter: order.append("slow"))
    urgent = queue.submit("urgent", "", lambda reporter: order.append("urgent"), is_urgent=True)
    assert (slow.state, urgent.state, order) == ("queued", "queued", [])
    held[1].set()
    assert over(queue, slow) == over(queue, urgent) == "done"
    assert order == ["urgent", "slow"]


def test_a_late_listener_reads_everything(queue):
    def run(reporter):
        for number in range(3):
            reporter.say("step", number=number)

    job = queue.submit("steps", "", run)
    over(queue, job)
    assert [event["number"] for event in queue.wait(job, 0, seconds=1.0)[0]] == [0, 1, 2]
    assert queue.wait(job, 2, seconds=1.0) == ([{"event": "step", "number": 2}], True)


def test_cancelling_a_waiting_job_never_runs_it(queue, held):
    ran = []
    job = queue.submit("waiting", "", ran.append)
    queue.cancel(job)
    held[1].set()
    assert over(queue, held[0]) == "done"
    assert (job.state, ran) == ("cancelled", [])


def test_cancelling_stops_at_the_next_step_of_the_progress(queue):
    steps, begun, go = [], threading.Event(), threading.Event()

    def run(reporter):
        with reporter.progress("counting", 10) as advance:
            for number in range(10):
                steps.append(number)
                begun.set()
                go.wait(5)
                advance(1)

    job = queue.submit("count", "", run)
    assert begun.wait(5)
    assert job.steps.progress == ("counting", 0, 10)
    queue.cancel(job)
    go.set()
    assert over(queue, job) == "cancelled"
    assert steps == [0]


def test_steps_stay_with_their_times_and_the_one_that_runs_says_what_is_left(queue, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("neurodial.studio.steps.time.monotonic", lambda: float(next(clock)))
    seen = []

    def run(reporter):
        for _ in range(2):
            with reporter.progress("measuring", 4) as advance:  # begun at 0, then at 4
                advance(1)
                seen.append(job.steps.view()[0])
        with reporter.progress("searching", 2), reporter.progress("answering", 8):
            seen.append(job.steps.progress)
        seen.append(job.steps.progress)

    go = threading.Event()
    queue.submit("before", "", lambda reporter: go.wait(5))
    job = queue.submit("steps", "", run)
    go.set()
    assert over(queue, job) == "done"
    first, again, inner, outer = seen
    assert (first["times"], first["running"], first["left"]) == (1, True, 3.0)
    assert (again["times"], again["seconds"]) == (2, 3.0), "2 s of the first time, 1 s of the second"
    assert (inner[0], outer[0]) == ("answering", "searching")
    last = job.steps.view()
    assert [step["description"] for step in last] == ["measuring", "searching", "answering"]
    assert not any(step["running"] for step in last)


def test_cancelling_stops_the_model_between_two_passes(queue):
    subject = tiny_subject(max_position_embeddings=100_000)
    subject.model.generation_config.eos_token_id = None
    subject.tokenizer.eos_token = None

    def run(reporter):
        with reporter.stoppable(subject):
            reporter.say("begun")
            return generate(subject, ["Hi"], decoding=Decoding(max_new_tokens=90_000))

    job = queue.submit("long", "", run)
    queue.wait(job, 0, seconds=20.0)
    queue.cancel(job)
    assert over(queue, job) == "cancelled", "no progress callback comes within one batch: the pass itself looked"
    assert not subject.decoder._forward_pre_hooks, "the model is given back"


def test_errors_come_as_words_and_the_worker_goes_on(queue, caplog):
    def refuse(reporter):
        raise OptionError("The dial is 'high'.", wanted="a number", fix="Turn it.")

    refused = queue.submit("refuse", "", refuse)
    broken = queue.submit("break", "", lambda reporter: 1 / 0)
    fine = queue.submit("fine", "", lambda reporter: 7)
    assert [over(queue, job) for job in (refused, broken, fine)] == ["failed", "failed", "done"]
    assert refused.error == {
        "kind": "OptionError",
        "problem": "The dial is 'high'.",
        "wanted": "a number",
        "fix": "Turn it.",
    }
    assert "ZeroDivisionError" in broken.error["problem"]
    assert "division by zero" in caplog.text
    assert fine.value == 7


def test_a_full_queue_is_refused(queue, held):
    for _ in range(QUEUE):
        queue.submit("wait", "", lambda reporter: None)
    with pytest.raises(OptionError, match=f"{QUEUE} jobs are waiting"):
        queue.submit("wait", "", lambda reporter: None)


def test_closing_stops_the_running_job():
    queue = JobQueue()
    begun = threading.Event()

    def run(reporter):
        begun.set()
        while True:
            reporter.check()

    job = queue.submit("endless", "", run)
    assert begun.wait(5)
    queue.close()
    assert job.state == "cancelled"
