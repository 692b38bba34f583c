"""Watching a circuit of 0.1 % over a corpus, against the plain forward pass over the same texts, and what it keeps.

1. The demo's Dose circuit on fifty neutral prompts, sixteen of its neurons shown.
2. A random model of four layers and 8,192 neurons: so small that what is done beside the passes shows most.
3. The demo's Dose circuit on 2,000 short texts, in seconds of the processor: a busy machine does not change those much.

Run: python benchmarks/explaining.py
     python benchmarks/explaining.py many (the third; half an hour on a busy core)
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from time import process_time

import torch
from measure import interleaved, ratios, write

from neurodial.activations.batches import batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.file import read_circuit
from neurodial.circuit.site import Neuron
from neurodial.explain.corpus import Corpus, corpus_of
from neurodial.explain.read_corpus import read_corpus
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import prompt_text

ROOT = Path(__file__).resolve().parents[1]

LAYERS, WIDTH = 4, 2048


def subject_of() -> Subject:
    """The model."""
    sizes = {"hidden_size": 256, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS}
    return Subject.of(tiny_model("llama", **sizes), tiny_tokenizer(), label="random")


def circuit_of() -> Circuit:
    """Eight neurons, two a layer."""
    return Circuit.of(
        [Row(Neuron(layer, None, index), 1.0 + layer, 1.0) for layer in range(LAYERS) for index in (3, 40)]
    )


def texts(subject: Subject, count: int) -> Corpus:
    """Short texts of different lengths."""
    return corpus_of(subject, None, [f"{number} {'pear ' * (3 + number % 7)}" for number in range(count)], name="pears")


@torch.no_grad()
def plain_pass(subject: Subject, corpus: Corpus) -> None:
    """All texts through the decoder in the same batches, without hooks or logits."""
    for batch in batches([text.tokens for text in corpus.texts], pad=pad_id(subject)):
        subject.decoder(input_ids=batch.tokens, use_cache=False)


def peak() -> int:
    """The most memory in bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def grown(subject: Subject, count: int) -> int:
    """Bytes by which the peak of this process grows when a corpus of `count` texts is watched."""
    corpus = texts(subject, count)
    before = peak()
    read_corpus(subject, circuit_of(), corpus, shown=0, places=8)
    return peak() - before


def measured(count: int = 400, rounds: int = 3) -> dict[str, object]:
    """Seconds, ratio, passes, and the growth of memory."""
    subject = subject_of()
    corpus = texts(subject, count)
    few = texts(subject, 100)
    read_corpus(subject, circuit_of(), few, shown=0, places=8)
    growth = grown(subject, count)
    seconds = interleaved(
        {
            "plain pass": lambda: plain_pass(subject, corpus),
            "watching": lambda: read_corpus(subject, circuit_of(), corpus, shown=0, places=8),
        },
        rounds=rounds,
    )
    reading = read_corpus(subject, circuit_of(), few, shown=0, places=8)
    return {
        "texts": count,
        "tokens": corpus.tokens,
        "passes": reading.passes,
        "seconds": seconds,
        "ratio": ratios(seconds, of="watching", to="plain pass"),
        "bytes more than for 100 texts": growth,
    }


def on_demo(rounds: int = 4) -> dict[str, object]:
    """Seconds and ratio on the small real model."""
    subject = load("demo")
    circuit = read_circuit(ROOT / "docs/results/demo/dose.circuit.json")
    corpus = corpus_of(subject, None, read_prompt_list("neutral").prompts[:50], name="neutral")
    seconds = interleaved(
        {
            "plain pass": lambda: plain_pass(subject, corpus),
            "watching": lambda: read_corpus(subject, circuit, corpus, shown=16, places=8),
        },
        rounds=rounds,
    )
    ratio = ratios(seconds, of="watching", to="plain pass")
    return {"texts": len(corpus), "tokens": corpus.tokens, "seconds": seconds, "ratio": ratio}


def short_texts(count: int) -> list[str]:
    """The first eight words of different requests and answers that the package ships."""
    found = []
    for name in ("flattery", "formality", "hedging", "positive_sentiment", "terse"):
        for contrast in filter(None, PairSet.read(name).splits):
            for example in contrast.positive:
                found += [prompt_text(example.prompt), example.positive_answer or "", example.negative_answer or ""]
            found += [prompt_text(example.prompt) for example in contrast.negative]
    short = [" ".join(text.split()[:8]) for text in found]
    return [text for text in dict.fromkeys(short) if text][:count]


def many(count: int = 2000) -> dict[str, object]:
    """Seconds of the processor, half of the plain pass before, half after, against a drift; ratio; peaks of memory."""
    subject = load("demo")
    circuit = read_circuit(ROOT / "docs/results/demo/dose.circuit.json")
    listed = short_texts(count)
    whole, first, second = (
        corpus_of(subject, None, some, name="short") for some in (listed, listed[: count // 2], listed[count // 2 :])
    )
    plain_pass(subject, texts(subject, 20))
    peaks: dict[int, int] = {}

    @contextmanager
    def noting(description: str, total: int) -> Iterator[Callable[[int], None]]:
        del description, total
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            peaks[done] = peak()

        yield advance

    marks = [process_time()]
    for work in (
        lambda: plain_pass(subject, first),
        lambda: read_corpus(subject, circuit, whole, shown=16, places=8, progress=noting),
        lambda: plain_pass(subject, second),
    ):
        work()
        marks.append(process_time())
    before, watching, after = (end - start for start, end in pairwise(marks))
    return {
        "texts": len(whole),
        "tokens": whole.tokens,
        "processor seconds": {"plain pass": [before, after], "watching": watching},
        "ratio": watching / (before + after),
        "peak bytes after so many texts": peaks,
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["many"]:
        write("explaining_many", many(), command="python benchmarks/explaining.py many")
    else:
        write("explaining", {"demo": on_demo(), "random": measured()}, command="python benchmarks/explaining.py")
