"""A neuron that fires on digits and nothing else, texts with some, and a judge behind a local server that can tell."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from tests.subjects import fresh

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.explain.corpus import Corpus, Text
from neurodial.model.subject import Subject

DIGITS, RANDOM = Neuron(0, None, 5), Neuron(0, None, 9)
WORDS = ("sun", "old river", "the way home", "why not", "pears", "never seen", "green trees", "on")


@torch.no_grad()
def digit_subject() -> Subject:
    """A tiny model whose neuron `DIGITS` reads the one coordinate in which only digits' embeddings are not 0."""
    subject = fresh("llama", seed=3)
    embedding = subject.model.get_input_embeddings().weight
    digits = [subject.tokenizer(str(digit), add_special_tokens=False)["input_ids"][0] for digit in range(10)]
    embedding[:, 0] = 0
    embedding[digits, 0] = 3
    block = subject.blocks[0]
    block.get_submodule("self_attn.o_proj").weight.zero_()
    for path in (subject.layout.blocks[0].site.up.path, subject.layout.blocks[0].site.gate.path):
        row = block.get_submodule(str(path)).weight[DIGITS.index]
        row.zero_()
        row[0] = 2
    return subject


def circuit() -> Circuit:
    """The planted neuron and a random one."""
    return Circuit.of([Row(DIGITS, 2.0, 1.0), Row(RANDOM, 1.0, 0.5)], name="digits")


def texts(subject: Subject, count: int = 60) -> Corpus:
    """Texts of words, some with a number in them."""
    generator = random.Random(0)
    made = []
    for number in range(count):
        words = [generator.choice(WORDS) for _ in range(2)]
        if number % 2:
            words.insert(1, str(generator.randrange(10)))
        tokens = tuple(subject.encode(" ".join(words)))
        made.append(Text(tokens, "positive" if number % 2 else "negative", 1, len(tokens)))
    return Corpus(tuple(made), "words and digits")


def answer(prompt: str) -> str:
    """What the judge says: it takes the tokens of the highest levels for what the neuron answers to."""
    if "Say in one short sentence" in prompt:
        strong = [text for text, level in re.findall(r"(.)\[(\d+)\]", prompt) if int(level) >= 5]
        is_digit = strong and sum(text.isdigit() for text in strong) >= 0.8 * len(strong)
        return "digits" if is_digit else "the letter e"
    fires = str.isdigit if "answer to this: digits" in prompt else lambda text: text == "e"
    if "Below are numbered pieces" in prompt:
        return json.dumps([fires(token) for token in re.findall(r">>(.)<<", prompt)])
    tokens = json.loads(prompt[prompt.index("\n\n[") :])
    return "```json\n" + json.dumps([10 if fires(token) else 0 for token in tokens]) + "\n```"


@contextmanager
def judge(says: Any = answer) -> Iterator[str]:
    """A server with OpenAI's chat route on this machine; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = says(body["messages"][0]["content"])
            reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
