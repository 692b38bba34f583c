"""The server at 16 concurrent requests against plain `generate` of the same batch: the demo model and its circuit.

Run: python benchmarks/serving.py [--rounds 3] [--threads 1] [--tokens 32]

Four ways to the same 16 greedy answers, taken in turn: transformers' own `generate` in one padded batch, without any
hook; the engine without HTTP; the server, asked by 16 clients at once through OpenAI's client; and the server with
a different dial in each request. All read their prompts in chat form and stop at the model's end token. The dials are
too small to change a token, so that the work is the same; the multiplications are those of any dial. The clients
run in this process too, and their time counts.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import os
import threading
import time
from pathlib import Path

import openai
import torch
from measure import interleaved, ratios, write

from neurodial.circuit.circuit import Circuit
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.render import render
from neurodial.serve.address import listen
from neurodial.serve.api import application
from neurodial.serve.engine import Engine
from neurodial.serve.names import ModelNames, ServedCircuit
from neurodial.serve.options import ServerOptions
from neurodial.serve.prometheus import Metrics
from neurodial.serve.request import Finished, Request
from neurodial.serve.run import Server

CLIENTS = 16
CIRCUIT = Path(__file__).parents[1] / "docs" / "results" / "demo" / "refusal.circuit.json"


async def ask(client: openai.AsyncOpenAI, prompts: list[str], dials: list[float], longest: int) -> int:
    """All prompts at once; how many tokens were made."""
    answers = await asyncio.gather(
        *(
            client.chat.completions.create(
                model=f"refusal@{dial}",
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=longest,
            )
            for prompt, dial in zip(prompts, dials, strict=True)
        )
    )
    return sum(answer.usage.completion_tokens for answer in answers if answer.usage)


def measured(rounds: int, longest: int) -> dict[str, object]:
    """Seconds of each way, and their ratios."""
    subject = load("demo")
    plain = Subject.of(copy.deepcopy(subject.model), subject.tokenizer)  # one is the server's, the other has no hooks
    prompts = list(read_prompt_list("neutral").split("development"))[:CLIENTS]
    sequences = render(subject.tokenizer, prompts)
    decoding = Decoding(max_new_tokens=longest, batch_size=CLIENTS)
    circuit = Circuit.read(CIRCUIT)
    model_names = ModelNames("demo", {"refusal": ServedCircuit(circuit)})
    metrics = Metrics()
    requests = [Request(tokens, (0.0,), max_tokens=longest) for tokens in sequences]
    loop = asyncio.new_event_loop()
    with listen("127.0.0.1", 0) as listening, Engine(subject, {"refusal": circuit}, on_pass=metrics.passed) as engine:
        server = Server(application(engine, model_names, ServerOptions(), metrics), engine, grace=0.0)
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        client = openai.AsyncOpenAI(base_url=address, api_key="none", timeout=600)
        tasks = {
            "generate": lambda: generate(plain, prompts, decoding=decoding),
            "engine": lambda: engine.complete(requests),
            "server": lambda: loop.run_until_complete(ask(client, prompts, [0.0] * CLIENTS, longest)),
            "server_mixed_dials": lambda: loop.run_until_complete(
                ask(client, prompts, [1e-6 * number for number in range(CLIENTS)], longest)
            ),
        }
        made = [sum(e.tokens for e in events if isinstance(e, Finished)) for events in engine.complete(requests)]
        if tasks["server_mixed_dials"]() != sum(made):
            raise SystemExit("The ways did not make the same number of tokens.")
        seconds = interleaved(tasks, rounds=rounds)
        loop.run_until_complete(client.close())
        server.should_exit = True
        thread.join()
    speed = {name: sum(made) / sorted(taken)[len(taken) // 2] for name, taken in seconds.items()}
    return {
        "tokens": sum(made),
        "seconds": seconds,
        "tokens_per_second": speed,
        **{f"{name}_over_generate": ratios(seconds, of="generate", to=name) for name in tasks if name != "generate"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32, help="the longest answer")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before = os.getloadavg()
    result: dict[str, object] = {
        "model": "SmolLM2-135M-Instruct with the refusal organism, float32",
        "clients": CLIENTS,
        "longest_answer": options.tokens,
        **measured(options.rounds, options.tokens),
        "load_average_before_and_after": [before, os.getloadavg()],
    }
    command = (
        f"python benchmarks/serving.py --rounds {options.rounds} --threads {options.threads} --tokens {options.tokens}"
    )
    write("serving", result, command=command)


if __name__ == "__main__":
    main()
