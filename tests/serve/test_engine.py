"""The engine's laws: what shares a batch with a request, and when it joined, never changes its answer."""

import random
from dataclasses import replace
from queue import SimpleQueue

import pytest
import torch
from tests.serve.served import asked, oracle, scales, text_of, tokens_of, two_circuits, until
from tests.subjects import (
    FAMILIES,
    SLIDING,
    WINDOW,
    circuit_of,
    close,
    shared,
    shared_subjects_are_given_back,
    sliding,
)
from tests.zoo import zoo_subject

import neurodial as nd
from neurodial.circuit.prompt_condition import PromptCondition, SideRate
from neurodial.errors import ModelMismatchError, OptionError, QueueFullError, ServerClosedError, ServingError
from neurodial.intervention.decide import prompt_readings
from neurodial.model.hooks import on_neurons
from neurodial.serve.batch import NOT_FINITE
from neurodial.serve.engine import CLOSING, Engine
from neurodial.serve.options import EngineOptions
from neurodial.serve.request import Failed, Finished, Piece, Request

__all__ = ["shared_subjects_are_given_back"]  # a fixture of every test here

SETTINGS = ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (-2.0, 0.0), (0.0, -4.0))


def mixed(count, seed=0, longest=24):
    """Requests of random lengths and dials."""
    source = random.Random(seed)
    return [
        asked(
            [source.randrange(32, 127) for _ in range(source.randrange(1, longest))],
            *source.choice(SETTINGS),
            max_tokens=source.randrange(1, 10),
        )
        for _ in range(count)
    ]


def answers(subject, circuits, requests, **options):
    with Engine(subject, circuits, EngineOptions(**options)) as engine:
        return engine.complete(requests)


def check_oracle(subject, circuits, requests, found):
    for request, events in zip(requests, found, strict=True):
        expected = oracle(subject, request.tokens, scales(circuits, request.dials), request.max_tokens)
        agreed = expected.check(tokens_of(events))
        if agreed == len(expected.tokens):
            kept = [token for token in expected.tokens if token != subject.tokenizer.eos_token_id]
            assert text_of(events) == subject.tokenizer.decode(kept, skip_special_tokens=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_dials_in_one_batch_are_answered_as_alone(family):
    """More requests than places: rows leave and join all the time, with prompts of other lengths."""
    subject = shared(family)
    circuits = two_circuits(subject)
    requests = mixed(5)
    check_oracle(subject, circuits, requests, answers(subject, circuits, requests, max_batch=3))


@pytest.mark.parametrize("family", SLIDING)
def test_a_sliding_window_looks_back_as_far_as_alone(family):
    subject = sliding(family)
    circuits = two_circuits(subject)
    requests = mixed(6, seed=1, longest=3 * WINDOW)
    check_oracle(subject, circuits, requests, answers(subject, circuits, requests, max_batch=3))


def test_dials_change_answers():
    """The opposite of the law: other dials, another answer; each circuit counts."""
    subject = shared()
    circuits = two_circuits(subject)
    found = answers(subject, circuits, [asked(range(60, 70), *dials) for dials in ((0, 0), (4, 0), (0, 6))])
    assert len({text_of(events) for events in found}) == 3


def test_a_request_without_dials_is_the_plain_model_bit_for_bit():
    """Beside a steered row too: the same batch in an engine without circuits gives the same log-probabilities."""
    subject = shared()
    first, second = asked(range(60, 70), top=5), asked(range(70, 83), top=5)
    plain, beside = answers(subject, {}, [first, second])
    requests = [asked(first.tokens, 0.0, 0.0, top=5), asked(second.tokens, 4.0, 1.0, top=5)]
    served, steered = answers(subject, two_circuits(subject), requests)
    assert served == plain
    assert steered != beside


def test_log_probabilities_are_those_of_a_plain_pass():
    subject = shared()
    circuits = two_circuits(subject)
    request = asked(range(60, 70), 1.5, -1.0, top=3)
    *pieces, _ = answers(subject, circuits, [request, *mixed(3)])[0]
    found = [entry for piece in pieces for entry in piece.scored]
    sequence = [*request.tokens, *(entry.token for entry in found)]
    with torch.no_grad(), nd.steer(subject, *scales(circuits, request.dials)):
        expected = subject.model(torch.tensor([sequence])).logits[0].log_softmax(dim=-1)[len(request.tokens) - 1 : -1]
    own = expected.gather(1, torch.tensor([[entry.token] for entry in found]))[:, 0]
    close(torch.tensor([entry.log_prob for entry in found]), own)
    best = expected.topk(3, dim=-1)
    assert [[token for token, _ in entry.top] for entry in found] == best.indices.tolist()
    close(torch.tensor([[value for _, value in entry.top] for entry in found]), best.values)


def test_the_prompts_own_log_probabilities():
    subject = shared()
    circuits = two_circuits(subject)
    request = asked(range(60, 70), 1.0, 0.0, echo=True, max_tokens=0)
    piece, end = answers(subject, circuits, [request, *mixed(3)])[0]
    with torch.no_grad(), nd.steer(subject, *scales(circuits, request.dials)):
        logits = subject.model(torch.tensor([request.tokens])).logits[0].log_softmax(dim=-1)
    assert [entry.token for entry in piece.scored] == list(request.tokens)
    assert piece.scored[0].log_prob is None
    expected = logits[:-1].gather(1, torch.tensor(request.tokens[1:])[:, None])[:, 0]
    close(torch.tensor([entry.log_prob for entry in piece.scored[1:]]), expected)
    assert end == Finished("length", 0)


def test_a_seed_gives_the_same_answer_in_any_company():
    subject = shared()
    circuits = two_circuits(subject)
    sampled = asked(range(60, 70), 1.0, 0.0, temperature=1.5, top_p=0.9, seed=7)
    [alone] = answers(subject, circuits, [sampled])
    company = [replace(request, temperature=1.0, seed=number) for number, request in enumerate(mixed(5))]
    crowded = answers(subject, circuits, [*company, sampled, *mixed(4, seed=3)], max_batch=3)[5]
    assert tokens_of(crowded) == tokens_of(alone)
    [other] = answers(subject, circuits, [replace(sampled, seed=8)])
    assert tokens_of(other) != tokens_of(alone)


def test_no_seed_gives_different_answers():
    request = asked(range(60, 70), temperature=2.0)
    first, second = answers(shared(), {}, [request, request])
    assert tokens_of(first) != tokens_of(second)


@pytest.mark.parametrize("length", [1, 3])
def test_a_stop_text_ends_the_answer_before_it(length):
    subject = shared()
    [whole] = answers(subject, {}, [asked(range(60, 70), max_tokens=20)])
    text = text_of(whole)
    stop = text[5 : 5 + length]
    [stopped] = answers(subject, {}, [asked(range(60, 70), max_tokens=20, stop=("never there", stop))])
    assert text_of(stopped) == text[: text.index(stop)]
    assert stopped[-1].reason == "stop"
    assert stopped[-1].tokens < whole[-1].tokens


def test_the_models_end_token_ends_the_answer():
    """Found by sampling many: the end token is counted, but not part of the text."""
    subject = shared()
    requests = [asked([65, 66], temperature=3.0, seed=seed, max_tokens=150) for seed in range(6)]
    ended = [events for events in answers(subject, {}, requests) if events[-1].reason == "stop"]
    assert ended
    for events in ended:
        tokens = tokens_of(events)
        assert tokens[-1] == subject.tokenizer.eos_token_id
        assert len(tokens) == events[-1].tokens
        assert text_of(events) == subject.tokenizer.decode(tokens, skip_special_tokens=True)


def test_cancelled_requests_leave_and_disturb_nobody():
    subject = shared()
    circuits = two_circuits(subject)
    requests = mixed(3)
    endless = asked(range(60, 70), 1.0, 0.0, max_tokens=400, temperature=1.0, seed=1)
    with Engine(subject, circuits, EngineOptions(max_batch=4)) as engine:
        seen: list = []
        gone = engine.submit([endless] * 3, [seen.append] * 3)
        until(lambda: seen)
        engine.cancel(gone)
        found = engine.complete(requests)
        until(lambda: engine.running == 0)
    assert not any(isinstance(event, Finished | Failed) for event in seen)
    check_oracle(subject, circuits, requests, found)


def test_waiting_requests_can_be_cancelled():
    with Engine(shared(), {}, EngineOptions(max_batch=1)) as engine:
        queue: SimpleQueue = SimpleQueue()
        rows = engine.submit([asked([65], max_tokens=100, temperature=1.0)] * 3, [queue.put] * 3)
        engine.cancel(rows)
        until(lambda: engine.waiting == engine.running == 0)


def test_a_full_queue_refuses_all_of_a_request_or_none():
    with Engine(shared(), {}, EngineOptions(max_batch=1, max_queue=1)) as engine:
        endless = asked([65], max_tokens=400, temperature=1.0)
        with pytest.raises(QueueFullError, match="at most 2 together"):
            engine.submit([endless] * 3, [lambda event: None] * 3)
        rows = engine.submit([endless] * 2, [lambda event: None] * 2)
        with pytest.raises(QueueFullError):
            engine.submit([endless], [lambda event: None])
        engine.cancel(rows)
        until(lambda: engine.waiting == engine.running == 0)
        assert isinstance(engine.complete([asked([65], max_tokens=2)])[0][-1], Finished)


def test_a_row_whose_logits_are_not_finite_ends_alone():
    """A planted neuron overflows where token 70 is read; the row beside it is answered as alone."""
    subject = shared()
    broken, well = asked([70], max_tokens=8), asked(range(80, 90), max_tokens=8)
    tokens = []

    def spoil(neurons):
        spoilt = neurons.clone()
        spoilt[torch.tensor(tokens[-1]) == 70] = float("nan")
        return spoilt

    def look(module, args, kwargs):
        tokens.append(kwargs["input_ids"].tolist())

    handles = [
        subject.decoder.register_forward_pre_hook(look, with_kwargs=True),
        on_neurons(subject, subject.sites[0], spoil),
    ]
    try:
        found = answers(subject, {}, [broken, well])
    finally:
        for handle in handles:
            handle.remove()
    assert found[0] == [Failed(NOT_FINITE)]
    check_oracle(subject, {}, [well], found[1:])


@pytest.mark.parametrize("tokens", [1, 10])
def test_an_error_of_the_model_reaches_the_request_and_the_engine_goes_on(tokens, caplog):
    """It raises once: while the prompt passes (10 tokens), or while the batch goes on (1 token)."""
    subject = shared()
    left = [1]

    def fail(module, args, kwargs):
        if kwargs["input_ids"].shape[1] == tokens and left:
            left.pop()
            raise RuntimeError("out of memory, say\nand more")

    engine = Engine(subject, {})  # measures the model
    handle = subject.decoder.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        with engine:
            [events] = engine.complete([asked(range(60, 70))])
            assert events[-1] == Failed("The model failed: RuntimeError: out of memory, say")
            [again] = engine.complete([asked(range(60, 70))])
            assert engine.is_alive
    finally:
        handle.remove()
    check_oracle(subject, {}, [asked(range(60, 70))], [again])
    assert "Traceback" not in caplog.text


def test_an_error_in_a_new_prompt_leaves_the_running_rows():
    subject = shared()
    old, new = asked(range(60, 64), max_tokens=30), asked(range(60, 70))

    def fail(module, args, kwargs):
        if kwargs["input_ids"].shape[1] == 10:
            raise RuntimeError("no")

    handle = subject.decoder.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        with Engine(subject, {}) as engine:
            queue: SimpleQueue = SimpleQueue()
            engine.submit([old], [queue.put])
            until(queue.qsize)
            [failed] = engine.complete([new])
            events = [queue.get()]
            while isinstance(events[-1], Piece):
                events.append(queue.get())
    finally:
        handle.remove()
    assert isinstance(failed[-1], Failed)
    check_oracle(subject, {}, [old], [events])


def test_closing_lets_running_requests_end_and_refuses_new_ones():
    with Engine(shared(), {}) as engine:
        queue: SimpleQueue = SimpleQueue()
        engine.submit([asked([65], max_tokens=40)], [queue.put])
        engine.close(grace=60.0)
        with pytest.raises(ServerClosedError):
            engine.submit([asked([65])], [queue.put])
        engine.wait_closed(60.0)
        events = [queue.get() for _ in range(queue.qsize())]
    assert isinstance(events[-1], Finished)


def test_after_the_grace_running_requests_end_with_words():
    with Engine(shared(), {}, EngineOptions(max_batch=1)) as engine:
        queue: SimpleQueue = SimpleQueue()
        endless = asked([65], max_tokens=400, temperature=1.0, seed=1)
        engine.submit([endless] * 2, [queue.put] * 2)
        engine.close(grace=0.0)
        engine.wait_closed(10.0)
        ends = [event for event in (queue.get() for _ in range(queue.qsize())) if not isinstance(event, Piece)]
    assert ends == [Failed(CLOSING)] * 2


def test_new_prompts_pass_together_only_within_the_budget():
    subject = shared()
    widths = []

    def look(module, args, kwargs):
        widths.append(tuple(kwargs["input_ids"].shape))

    def passes(budget):
        engine = Engine(subject, {}, EngineOptions(prompt_budget=budget))
        widths.clear()  # of what the engine measured first
        queue: SimpleQueue = SimpleQueue()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Engine, "is_alive", True)  # all three wait before the first turn
            engine.submit([asked(range(60, 70), max_tokens=1)] * 3, [queue.put] * 3)
        with engine:
            until(lambda: queue.qsize() == 6)
        return widths.copy()

    handle = subject.decoder.register_forward_pre_hook(look, with_kwargs=True)
    try:
        assert passes(30) == [(3, 10)]
        assert passes(29) == [(2, 10), (1, 10)]
        assert passes(1) == [(1, 10)] * 3
    finally:
        handle.remove()


def test_a_circuit_of_another_model_is_refused_at_the_start_unless_forced():
    circuit = {"theirs": circuit_of(shared("qwen2"))}
    with pytest.raises(ModelMismatchError):
        Engine(shared(), circuit)
    assert answers(shared(), circuit, [asked([65], 1.0)], force=True)


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"max_queue": -1}, {"prompt_budget": 0}])
def test_options_that_make_no_sense(options):
    with pytest.raises(OptionError):
        EngineOptions(**options)


def test_each_request_is_decided_by_itself_and_keeps_its_decision():
    """Requests that join one by one, with different dials, get what `generate` gives each alone."""
    subject = shared()
    texts = [f"{text} {number}" for number, text in enumerate(("sun", "old stones", "why not", "pear", "on", "x y z"))]
    neurons = tuple(sorted(row.neuron for row in circuit_of(subject, 4)))
    blank = PromptCondition(
        "projection", 0.0, (1.0, -0.5, 2.0, 0.25), SideRate(1, 1), SideRate(0, 1), 0.01, neurons=neurons
    )
    values = prompt_readings(subject, [blank], texts)[0]
    condition = replace(blank, threshold=float(values.sort().values[2:4].mean()))
    circuit = replace(circuit_of(subject, 12), condition=condition)
    dials = (3.0, 0.0, 3.0, 3.0, -2.0, 3.0)
    decoding = nd.Decoding(max_new_tokens=8)
    wanted = [
        nd.generate(subject, [text], under=nd.Scale(circuit, dial), decoding=decoding)[0]
        for text, dial in zip(texts, dials, strict=True)
    ]
    requests = [
        Request(tokens=tokens, dials=(dial,), max_tokens=8, top=0)
        for tokens, dial in zip(subject.render(texts), dials, strict=True)
    ]
    with Engine(subject, {"some": circuit}, EngineOptions(max_batch=3, prompt_budget=16)) as engine:
        events = engine.complete(requests)
    got = [[s.token for e in found if isinstance(e, Piece) for s in e.scored] for found in events]
    assert [[t for t in tokens if t != 257] for tokens in got] == [list(answer.tokens) for answer in wanted]
    always = nd.generate(subject, texts, under=nd.Scale(replace(circuit, condition=None), 3.0), decoding=decoding)
    assert any(a.tokens != w.tokens for a, w, dial in zip(always, wanted, dials, strict=True) if dial == 3.0)


@pytest.mark.parametrize(
    ("model_type", "why"),
    [
        ("bart", "would depend on what else is served.*--max-batch 1"),  # counts padding as places
        ("qwen3_next", "can't be served: a pass that goes on from keys and values fails"),  # has a state as well
    ],
)
def test_a_model_whose_answers_depend_on_what_else_is_served_is_refused_at_the_start(model_type, why):
    subject = zoo_subject(model_type)
    with pytest.raises(ServingError, match=why):
        Engine(subject, {})


def test_such_a_model_is_served_one_request_at_a_time():
    subject = zoo_subject("bart")
    requests = [Request(tokens=tuple(subject.tokenizer(text)["input_ids"]), max_tokens=4) for text in ("a cat", "no")]
    with Engine(subject, {}, EngineOptions(max_batch=1)) as engine:
        events = engine.complete(requests)
    answers = nd.generate(subject, ["a cat", "no"], decoding=nd.Decoding(max_new_tokens=4))
    for own, answer in zip(events, answers, strict=True):
        assert "".join(event.text for event in own if isinstance(event, Piece)) == answer.text
