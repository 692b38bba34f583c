"""Very many requests of every kind: every answer is that of the request alone, none is lost, and nothing stays."""

import asyncio
import gc
import http.client
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from tests.serve.served import TIE, live, oracle, scales, two_circuits, until
from tests.subjects import fresh

from neurodial.generation.generate import stop_tokens
from neurodial.prompts.render import render
from neurodial.serve.batch import RunningRow
from neurodial.serve.options import EngineOptions, ServerOptions

AT_ONCE = 24
LONGEST = 12
PROMPTS = ("Hello", "Tell me of rivers and old stones, and of the long way home", "x" * 90)
SETTINGS = ((0.0, 0.0), (1.0, 0.0), (-2.5, 0.0), (0.5, 6.0))
MALFORMED = (
    b"",
    b"{",
    b"[1]",
    b'{"model": "tiny"}',
    b'{"model": "nobody", "messages": []}',
    b"\xff",
    b'{"model": NaN}',
)
GROWTH = 24 << 20
"""Bytes that the process may grow over the second half: allocators keep some; a row's cache kept by each cancelled or
finished request would be 10 kB and more, and its events as much again."""

is_long_run = os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1"
LONG = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not is_long_run, reason="the long run goes with the other engines' tests"),
]


def expected(subject, circuits):
    """For each prompt and setting the texts that are right after so many tokens: several after a tie."""
    found = {}
    for prompt in PROMPTS:
        [tokens] = render(subject.tokenizer, [prompt])
        for dials in SETTINGS:
            answer = oracle(subject, tokens, scales(circuits, dials), LONGEST)
            sure = next((place for place, gap in enumerate(answer.gaps) if gap < TIE), len(answer.gaps))
            found[prompt, dials] = answer.tokens, sure
    return found


def is_right(subject, answer, sure, text, max_tokens):
    """Whether a text is the answer cut at a number of tokens; after a tie only its beginning counts."""
    tokens = [token for token in answer[:max_tokens] if token not in stop_tokens(subject)]
    if sure >= min(len(answer), max_tokens):
        return text == subject.tokenizer.decode(tokens)
    return text.startswith(subject.tokenizer.decode(tokens[:sure]).rstrip("\ufffd"))


class Soak:
    """The clients."""

    def __init__(self, server, subject, answers):
        self.server, self.subject, self.answers = server, subject, answers
        self.counts = {"right": 0, "cancelled": 0, "refused": 0}

    async def one(self, client, source):
        kind = source.random()
        if kind < 0.1:
            await asyncio.to_thread(self.malformed, source.choice(MALFORMED))
            return
        prompt, dials, longest = source.choice(PROMPTS), source.choice(SETTINGS), source.randrange(1, LONGEST + 1)
        names = ("polite", "terse")
        circuits = [{"name": name, "dial": dial} for name, dial in zip(names, dials, strict=True) if dial]
        work = self.ask(client, prompt, circuits, longest, streams=source.random() < 0.5)
        if kind < 0.3:
            task = asyncio.ensure_future(work)
            await asyncio.sleep(source.random() * 0.1)
            if task.cancel():
                await asyncio.wait([task])
                self.counts["cancelled"] += 1
                return
            text = await task
        else:
            text = await work
        answer, sure = self.answers[prompt, dials]
        assert is_right(self.subject, answer, sure, text, longest), (prompt, dials, longest, text)
        self.counts["right"] += 1

    async def ask(self, client, prompt, circuits, longest, *, streams):
        options = {"model": "tiny", "temperature": 0, "max_tokens": longest, "extra_body": {"circuits": circuits}}
        messages = [{"role": "user", "content": prompt}]
        if not streams:
            answer = await client.chat.completions.create(messages=messages, **options)
            return answer.choices[0].message.content
        chunks = await client.chat.completions.create(messages=messages, stream=True, **options)
        parts = [choice async for chunk in chunks for choice in chunk.choices]
        assert parts[-1].finish_reason in {"stop", "length"}
        return "".join(part.delta.content or "" for part in parts)

    def malformed(self, body):
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=60)
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status in {400, 404}
        assert json.loads(answer.read())["error"]["message"]
        connection.close()
        self.counts["refused"] += 1

    async def run(self, count, seed):
        """`count` requests, `AT_ONCE` of them at a time."""
        source, gate = random.Random(seed), asyncio.Semaphore(AT_ONCE)

        async with openai.AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0) as client:

            async def limited(own):
                async with gate:
                    await self.one(client, own)

            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(limited(random.Random(source.random())))


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=LONG)])
def test_no_request_is_lost_or_answered_wrong(count, caplog, capfd):
    subject = fresh()
    circuits = two_circuits(subject)
    answers = expected(subject, circuits)
    engine = EngineOptions(max_batch=8, max_queue=2 * AT_ONCE)
    sizes = []
    with live(subject, circuits, engine=engine, options=ServerOptions(grace=5.0)) as server:
        soak = Soak(server, subject, answers)
        for half in range(2):
            with ThreadPoolExecutor(1) as apart:  # a browser's test before may have left a running loop in this thread
                apart.submit(asyncio.run, soak.run(count // 2, seed=half)).result()
            until(lambda: server.engine.running == server.engine.waiting == 0)
            gc.collect()
            sizes.append(resident())
        assert sum(soak.counts.values()) == count
        assert min(soak.counts.values()) > count / 50, soak.counts
        assert server.engine.is_alive
    gc.collect()
    assert not any(type(found) is RunningRow for found in gc.get_objects())
    assert sizes[1] - sizes[0] < GROWTH
    output = "".join(capfd.readouterr()) + caplog.text
    assert "Traceback" not in output
    assert "failed" not in output


def test_the_check_sees_a_wrong_answer():
    """The opposite: another dial's text, or one token more, is not right."""
    subject = fresh()
    circuits = two_circuits(subject)
    [tokens] = render(subject.tokenizer, ["Hello"])
    answer = oracle(subject, tokens, scales(circuits, (0.0, 0.0)), LONGEST)
    other = oracle(subject, tokens, scales(circuits, (-2.5, 0.0)), LONGEST)
    decode = subject.tokenizer.decode
    assert is_right(subject, answer.tokens, LONGEST, decode(answer.tokens[:8]), 8)
    assert not is_right(subject, answer.tokens, LONGEST, decode(other.tokens[:8]), 8)
    assert not is_right(subject, answer.tokens, LONGEST, decode(answer.tokens[:9]), 8)
    assert not is_right(subject, answer.tokens, 4, decode(other.tokens[:8]), 8)
