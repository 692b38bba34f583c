"""Watching a circuit of 0.1 % over a corpus, against the plain forward pass over the same texts, and what it keeps.

A random model of eight layers and 8,192 neurons: small enough that what is done beside the passes would show.

Run: python benchmarks/explaining.py
"""

from __future__ import annotations

import resource

import torch
from measure import interleaved, ratios, write

from neurodial.activations.batches import batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.explain.corpus import Corpus, corpus_of
from neurodial.explain.read_corpus import read_corpus
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer

LAYERS, WIDTH = 8, 1024


def subject_of() -> Subject:
    """The model."""
    sizes = {"hidden_size": 256, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS}
    return Subject.of(tiny_model("llama", **sizes), tiny_tokenizer(), label="random")


def circuit_of() -> Circuit:
    """Eight neurons, one a layer."""
    return Circuit.of([Row(Neuron(layer, None, 7 * layer + 1), 1.0 + layer, 1.0) for layer in range(LAYERS)])


def texts(subject: Subject, count: int) -> Corpus:
    """Short texts of different lengths."""
    return corpus_of(subject, None, [f"{number} {'pear ' * (3 + number % 7)}" for number in range(count)], name="pears")


@torch.no_grad()
def plain_pass(subject: Subject, corpus: Corpus) -> None:
    """All texts through the decoder in the same batches, without hooks or logits."""
    for batch in batches([text.tokens for text in corpus.texts], pad=pad_id(subject)):
        subject.decoder(input_ids=batch.tokens, use_cache=False)


def grown(subject: Subject, count: int) -> int:
    """Bytes by which the peak of this process grows when a corpus of `count` texts is watched."""
    corpus = texts(subject, count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_corpus(subject, circuit_of(), corpus, shown=0, places=8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def measured(count: int = 2000, rounds: int = 3) -> dict[str, object]:
    """Seconds, ratio, passes, and the growth of memory."""
    subject = subject_of()
    corpus = texts(subject, count)
    few = texts(subject, 200)
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
        "bytes more than for 200 texts": growth,
    }


if __name__ == "__main__":
    write("explaining", measured(), command="python benchmarks/explaining.py")
