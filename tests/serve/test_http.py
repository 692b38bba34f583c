"""The real client of OpenAI against a real server: forms, dials, streams, and what is refused."""

import asyncio
import http.client
import json
import re
import socket
import time
from contextlib import contextmanager

import openai
import pytest
from tests.serve.served import live, two_circuits, until
from tests.subjects import fresh

import neurodial as nd
from neurodial.serve.options import EngineOptions, ServerOptions
from neurodial.serve.prepare import Preparer

CHAT = [{"role": "user", "content": "Hello there"}]
GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def subject():
    return fresh()


@pytest.fixture(scope="module")
def circuits(subject):
    return two_circuits(subject)


@pytest.fixture(scope="module")
def server(subject):
    with live(subject) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with connected(server) as found:
        yield found


@contextmanager
def connected(server, key="none"):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def chat(client, model="tiny", messages=CHAT, **options):
    return client.chat.completions.create(model=model, messages=messages, **{**GREEDY, **options})


def raw(server, method="POST", path="/v1/chat/completions", body=None, **headers):
    """A request as it is, and the answer's status and JSON (or text)."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data or b"")), **named}.items():
        connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = "json" in (answer.getheader("Content-Type") or "")
    return answer.status, json.loads(content) if is_json else content.decode(), dict(answer.getheaders())


# ------------------------------------------------------------------------------------------- answers


def test_the_models(client):
    listed = {model.id: model.model_dump() for model in client.models.list()}
    assert list(listed) == ["tiny", "polite", "terse"]
    assert (listed["tiny"]["parent"], listed["polite"]["parent"]) == (None, "tiny")
    assert client.models.retrieve("tiny:polite@0.5").model_dump()["dials"] == {"polite": 0.5}
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


@pytest.mark.parametrize("dial", [0.0, 1.0, -2.0, 4.0])
def test_http_and_python_give_the_same_greedy_text(client, circuits, dial):
    answer = chat(client, f"polite@{dial}")
    decoding = nd.Decoding(max_new_tokens=12)
    # On a model of its own: the server's is the server's.
    [python] = nd.generate(fresh(), ["Hello there"], under=nd.Scale(circuits["polite"], dial), decoding=decoding)
    assert answer.choices[0].message.content == python.text
    assert answer.choices[0].finish_reason == ("stop" if python.is_finished else "length")
    assert answer.usage.completion_tokens == len(python.tokens) + python.is_finished
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == f"polite@{dial}"


def test_dials_by_name_and_by_body_are_the_same_and_add(client):
    by_name = chat(client, "polite@4").choices[0].message.content
    assert by_name != chat(client).choices[0].message.content
    for model, dials in (("tiny", [4]), ("polite@1", [3]), ("polite", [3]), ("polite@-1", [3, 2])):
        circuits = [{"name": "polite", "dial": dial} for dial in dials]
        assert chat(client, model, extra_body={"circuits": circuits}).choices[0].message.content == by_name
    both = chat(client, "polite@4", extra_body={"circuits": [{"name": "terse", "dial": 6}]})
    assert both.choices[0].message.content != by_name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.2, "seed": 3, "top_p": 0.9},
        {"logprobs": True, "top_logprobs": 2},
        {"max_tokens": 40, "temperature": 2.0, "seed": 1, "stop": ["a", "e", "o"]},
    ],
)
def test_a_stream_is_the_whole_answer(client, options):
    whole = chat(client, "polite@1.5", **options)
    chunks = list(chat(client, "polite@1.5", stream=True, stream_options={"include_usage": True}, **options))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    if "logprobs" in options:
        streamed = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content]
        assert streamed == whole.choices[0].logprobs.content
        assert all(len(entry.top_logprobs) == 2 for entry in streamed)
        assert all(entry.logprob == entry.top_logprobs[0].logprob for entry in streamed)
    else:
        assert whole.choices[0].logprobs is None


def test_a_stream_without_usage_has_none(client):
    chunks = list(chat(client, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices


def test_a_seed_repeats_an_answer(client):
    texts = {chat(client, temperature=1.5, seed=seed).choices[0].message.content for seed in (1, 1, 2)}
    assert len(texts) == 2


def test_many_clients_at_once_get_what_each_would_alone(server, client):
    names = ["tiny", "polite@4", "polite@-3", "terse@6", "terse@-2"]
    alone = {name: chat(client, name).choices[0].message.content for name in names}

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as asynchronous:
            asked = [
                asynchronous.chat.completions.create(model=name, messages=CHAT, **GREEDY)
                for name in names
                for _ in "ab"
            ]
            return await asyncio.gather(*asked)

    for answer in asyncio.run(ask_all()):
        assert answer.choices[0].message.content == alone[answer.model]


def test_completions_of_texts_and_tokens(client, subject):
    texts = ["Once upon", "The end"]
    both = client.completions.create(model="polite", prompt=texts, echo=True, **GREEDY)
    assert [choice.index for choice in both.choices] == [0, 1]
    for text, choice in zip(texts, both.choices, strict=True):
        tokens = subject.tokenizer(text)["input_ids"]
        [alone] = client.completions.create(model="polite", prompt=tokens, **GREEDY).choices
        assert choice.text == text + alone.text
    tokens = [subject.tokenizer(text)["input_ids"] for text in texts]
    again = client.completions.create(model="polite", prompt=tokens, echo=True, **GREEDY)
    assert [choice.text for choice in again.choices] == [choice.text for choice in both.choices]
    chunks = client.completions.create(model="polite", prompt=texts, echo=True, stream=True, **GREEDY)
    streamed = ["", ""]
    for chunk in chunks:
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in both.choices]


def test_log_likelihoods_of_a_prompt(client, subject):
    """What evaluation harnesses ask for: the prompt's own log-probabilities, and no new token."""
    options = {"temperature": 0, "max_tokens": 0, "echo": True, "logprobs": 1}
    scores = client.completions.create(model="tiny", prompt="Hello", **options).choices[0].logprobs
    count = len(subject.tokenizer("Hello")["input_ids"])
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.text_offset) == count
    assert scores.token_logprobs[0] is None
    assert all(value < 0 for value in scores.token_logprobs[1:])
    assert all(len(top) == 1 for top in scores.top_logprobs[1:])
    steered = client.completions.create(model="polite@3", prompt="Hello", **options).choices[0].logprobs
    assert steered.token_logprobs != scores.token_logprobs


def test_messages_in_parts_and_a_developers_message(client):
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
    assert chat(client, messages=[{"role": "user", "content": parts}]).choices[0] == chat(client).choices[0]
    said = [chat(client, messages=[{"role": role, "content": "Be kind."}, *CHAT]) for role in ("developer", "system")]
    assert said[0].choices[0] == said[1].choices[0] != chat(client).choices[0]


def test_the_answers_length_where_none_is_asked_for(subject):
    """A chat: the server's; a completion: 16, as OpenAI has it; never more than the context has room for."""
    with live(subject, options=ServerOptions(max_tokens=7)) as server, connected(server) as client:
        free = {"temperature": 2.0, "seed": 4}
        assert client.chat.completions.create(model="tiny", messages=CHAT, **free).usage.completion_tokens == 7
        assert client.completions.create(model="tiny", prompt="Hello", **free).usage.completion_tokens == 16
        long = [65] * (subject.context_length - 3)
        assert client.completions.create(model="tiny", prompt=long, **free).usage.completion_tokens == 3
        assert chat(client, max_tokens=9).usage.completion_tokens == 9
        assert chat(client, max_completion_tokens=5).usage.completion_tokens == 5


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "nobody"}, 404, "There is no model 'nobody'"),
        ({"model": None}, 400, "model: "),
        ({"model": "polite@9"}, 400, "from -8 to 8"),
        ({"model": "polite@nan"}, 400, "from -8 to 8"),
        ({"circuits": [{"name": "nobody"}]}, 404, "There is no model 'nobody'"),
        ({"circuits": [{"name": "polite", "dial": 1e9}]}, 400, "from -8 to 8"),
        ({"circuits": [{"name": "polite", "dial": "1"}]}, 400, "circuits.0.dial: "),
        ({"circuits": [{"name": "polite", "dail": 1}]}, 400, "circuits.0.dail: this server knows no such field"),
        ({"circuits": {"polite": 1}}, 400, "circuits: "),
        ({"circuit": []}, 400, "circuit: this server knows no such field"),
        ({"messages": []}, 400, "messages: "),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role: "),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content"),
        ({"messages": "Hello"}, 400, "messages: "),
        ({"max_tokens": 0}, 400, "max_tokens is 0"),
        ({"max_tokens": -5}, 400, "max_tokens: "),
        ({"max_tokens": 10**9}, 400, "Wanted: at most 512 together"),
        ({"temperature": -1}, 400, "temperature: "),
        ({"top_p": 0}, 400, "top_p: "),
        ({"seed": 2**80}, 400, "seed: "),
        ({"stop": [""]}, 400, "stop"),
        ({"n": 2}, 400, "n: this server takes only 1"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty: this server takes only 0"),
        ({"tools": [{"type": "function"}]}, 400, "tools: this server takes only []"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format: "),
        ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs: "),
    ],
)
def test_a_bad_field_is_named(server, change, status, words):
    got, body, _ = raw(server, body={"model": "tiny", "messages": CHAT, **change})
    assert got == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert words in body["error"]["message"]


def test_neutral_values_are_taken(client):
    neutral = {"n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "user": "me"}
    assert chat(client, **neutral, response_format={"type": "text"}).choices == chat(client).choices


@pytest.mark.parametrize("prompt", ["", [], [[]], [10**9], [-1], [1.5], None, [None], [["a"]]])
def test_bad_prompts_of_completions(server, prompt):
    """The tiny tokenizer puts a token before an empty text; such a prompt is answered."""
    status, body, _ = raw(server, path="/v1/completions", body={"model": "tiny", "prompt": prompt, "max_tokens": 1})
    assert status == (200 if prompt == "" else 400), body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"model": "tiny", "messages": ',
        b"[" * 100_000,
        b'{"model": "tiny", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "tiny", "circuits": [{"name": "polite", "dial": Infinity}], "messages": []}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_malformed_bodies(server, body):
    status, answer, _ = raw(server, body=body)
    assert status == 400, answer
    assert answer["error"]["message"]


def test_bodies_that_are_too_large(server):
    """Announced, and sent in chunks without announcing it."""
    limit = ServerOptions().max_body
    status, body, _ = raw(server, body=b" " * 10, Content_Length=str(limit + 1))
    assert (status, body["error"]["code"]) == (413, "body_too_large")
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(limit // 0x10000 + 1):
            connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/v1/models/../../../etc/passwd",
        "/v1/models/%2e%2e%2fetc%2fpasswd",
        "/v1/%00",
        "//",
        "/docs",
    ],
)
def test_nothing_else_is_served(server, path):
    status, body, _ = raw(server, "GET", path)
    assert status == 404, body
    assert "error" in body


def test_methods_that_do_not_fit(server):
    assert raw(server, "GET")[0] == 405
    assert raw(server, "DELETE", "/v1/models")[0] == 405


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Host": ""}, "host_not_allowed"),
        ({"Origin": "http://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
    ],
)
def test_foreign_pages_are_refused_everywhere(server, headers, code):
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/health"),
        ("GET", "/metrics"),
    ):
        status, body, _ = raw(server, method, path, **headers)
        assert (status, body["error"]["code"]) == (403, code)


def test_an_allowed_origin_gets_what_browsers_ask_for(subject):
    with live(subject, options=ServerOptions(allow_origin=("https://good.example",), api_key="secret")) as server:
        asked = {"Origin": "https://good.example", "Access_Control_Request_Method": "POST"}
        status, _, headers = raw(server, "OPTIONS", **asked, Access_Control_Request_Headers="authorization")
        assert (status, headers["access-control-allow-origin"]) == (200, "https://good.example")
        status, _, headers = raw(server, "GET", "/v1/models", Origin="https://good.example")
        assert (status, headers["access-control-allow-origin"]) == (401, "https://good.example")
        assert raw(server, "OPTIONS", Origin="https://evil.example", Access_Control_Request_Method="POST")[0] == 400


def test_the_token(subject):
    with live(subject, options=ServerOptions(api_key="secret")) as server:
        with connected(server, "secret") as client:
            assert client.models.list().data
        with (
            connected(server, "wrong") as client,
            pytest.raises(openai.AuthenticationError, match="API key is missing"),
        ):
            client.models.list()
        assert raw(server, "GET", "/metrics")[0] == 401
        assert raw(server, "GET", "/health")[0] == 200


# ------------------------------------------------------------------------------------------- under load


@contextmanager
def slowed(subject):
    """A model that takes a while."""
    handle = subject.decoder.register_forward_pre_hook(lambda module, args: time.sleep(0.2))
    try:
        yield
    finally:
        handle.remove()


def endless(client, **options):
    """A stream of many tokens, begun."""
    options = {"temperature": 2.0, "seed": 1, "max_tokens": 450, "stream": True, **options}
    chunks = client.chat.completions.create(model="polite@1", messages=CHAT, **options)
    next(iter(chunks))
    return chunks


def test_a_full_queue_says_when_to_come_again(subject):
    with live(subject, engine=EngineOptions(max_batch=1, max_queue=0)) as server, connected(server) as client:
        with endless(client):
            with pytest.raises(openai.RateLimitError, match="at most 1 together") as caught:
                chat(client)
            assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60
        until(lambda: server.engine.running == 0)
        assert chat(client).choices


def test_the_client_that_leaves_frees_its_place(server, client):
    """While it streams, and while it waits for a whole answer."""
    with endless(client):
        assert server.engine.running == 1
    until(lambda: server.engine.running == 0, seconds=2.0)
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    body = {"model": "tiny", "messages": CHAT, "max_tokens": 450, "temperature": 2.0, "seed": 1}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    until(lambda: server.engine.running == 1)
    connection.close()
    until(lambda: server.engine.running == 0, seconds=2.0)
    found = raw(server, "GET", "/metrics")[1]
    assert float(re.search(r"^neurodial_cancelled_requests_total (\S+)", found, re.MULTILINE)[1]) == 2


def test_a_request_that_takes_too_long_ends_with_words(subject):
    options = ServerOptions(timeout=0.3)
    with slowed(subject), live(subject, options=options) as server, connected(server) as client:
        with pytest.raises(openai.APIStatusError, match=r"longer than 0\.3 seconds") as caught:
            chat(client, temperature=2.0, seed=1, max_tokens=480)
        assert caught.value.status_code == 504
        with pytest.raises(openai.APIError, match=r"longer than 0\.3 seconds"):
            list(endless(client))
        until(lambda: server.engine.running == 0)


def test_an_error_of_the_model_is_a_500_with_words(subject, server, client, caplog, capfd):
    def fail(module, args, kwargs):
        raise RuntimeError("the model is tired")

    handle = subject.decoder.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        for options in ({}, {"stream": True}):
            with pytest.raises(openai.InternalServerError, match="RuntimeError: the model is tired"):
                chat(client, **options)
    finally:
        handle.remove()
    assert chat(client).choices
    assert raw(server, "GET", "/health")[1]["status"] == "ok"
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_what_nobody_foresaw_is_a_500_with_words_too(server, monkeypatch):
    def fail(self, body):
        raise KeyError("no")

    monkeypatch.setattr(Preparer, "chat", fail)
    status, body, _ = raw(server, body={"model": "tiny", "messages": CHAT})
    assert (status, body["error"]["message"]) == (500, "The server failed: KeyError.")


def test_an_error_in_the_middle_of_a_stream_is_its_last_event(subject, client):
    chunks = endless(client)

    def fail(module, args, kwargs):
        raise RuntimeError("the model is tired")

    handle = subject.decoder.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        with pytest.raises(openai.APIError, match="the model is tired"):
            list(chunks)
    finally:
        handle.remove()


def test_shutting_down_lets_streams_end_and_takes_no_new_ones(subject):
    with live(subject, options=ServerOptions(grace=30.0)) as server, connected(server) as client:
        chunks = endless(client, max_tokens=60)
        server.server.should_exit = True
        until(lambda: not server.engine.is_alive)
        with pytest.raises(openai.APIConnectionError):
            chat(client)
        assert list(chunks)[-1].choices[0].finish_reason == "length"
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_after_the_grace_streams_end_with_words(subject):
    with live(subject, options=ServerOptions(grace=0.0)) as server, connected(server) as client:
        chunks = endless(client)
        began = time.monotonic()
        server.server.should_exit = True
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
        server.thread.join(10)
        assert time.monotonic() - began < 5


def test_the_metrics_count(subject):
    with live(subject) as server, connected(server) as client:
        usage = chat(client, "polite").usage
        with pytest.raises(openai.NotFoundError):
            chat(client, "nobody")
        assert raw(server, "GET", "/v1/models", Host="evil.example")[0] == 403
        page = raw(server, "GET", "/metrics")[1]
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['neurodial_requests_total{path="/v1/chat/completions",status="200"}']) == 1
    assert float(lines['neurodial_requests_total{path="/v1/chat/completions",status="404"}']) == 1
    assert float(lines['neurodial_requests_total{path="refused",status="403"}']) == 1
    assert float(lines["neurodial_prompt_tokens_total"]) == usage.prompt_tokens
    assert float(lines["neurodial_generated_tokens_total"]) == usage.completion_tokens
    assert (
        float(lines["neurodial_batch_rows_count"]) == usage.completion_tokens - 1
    )  # the prompt's pass makes the first
    assert float(lines["neurodial_request_seconds_count"]) == float(lines["neurodial_first_token_seconds_count"]) == 1
    assert float(lines["neurodial_running_requests"]) == float(lines["neurodial_waiting_requests"]) == 0
