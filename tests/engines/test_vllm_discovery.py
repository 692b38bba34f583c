"""Discovery in real vLLM, started as a user starts it, against the same discovery in transformers.

Every run holds all that can be held at once, as each start takes most of the time: prompts in chunks, several in a
batch, a universal filter, several tokens read of each prompt.
"""

import os
import signal
import subprocess
import threading
import time
from dataclasses import replace

import pytest

import neurodial as nd
from neurodial.discovery import find
from neurodial.engines.vllm_engine import PYTHON, VLLM
from neurodial.errors import EngineError
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

DENSE = {
    "hidden_size": 128, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
    "vocab_size": 320,
}  # fmt: skip
ROUTED = {
    **DENSE,
    "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
}  # fmt: skip
CONTRAST = nd.Contrast.of([f"harm {n}" + " x" * n for n in range(9)], [f"help with {n}" for n in range(7)])
METHOD = nd.CNA(select=nd.Count(8), score="auroc", universal=nd.UniversalFilter(fraction=0.02, share=0.6))

ONE_PROCESS = ("--distributed-executor-backend", "uni")
CHUNKED = ("--max-num-batched-tokens", "64", "--max-num-seqs", "6")
SHARED = ("--dtype", "float32", "--block-size", "32")

EXACT = 3e-5
"""Of the largest score: two engines, two layers, float32."""


@pytest.fixture
def engine(vllm, monkeypatch, tmp_path):
    """Makes the engine of a tiny model of a family."""
    monkeypatch.setenv(PYTHON, vllm.interpreter("vLLM"))
    for name, value in vllm.VLLM_SETTINGS.items():
        monkeypatch.setenv(name, value)

    def make(family, *options):
        if not (tmp_path / "model").exists():
            subject = tiny_subject(family, **(ROUTED if "moe" in family else DENSE))
            subject.model.save_pretrained(tmp_path / "model")
            subject.tokenizer.save_pretrained(tmp_path / "model")
        return VLLM(tmp_path / "model", (*SHARED, *options), folder=tmp_path / "gathered")

    return make


def compare(engine, method):
    """Discovery there and here; the largest difference of a score, as a share of the largest score."""
    there, here = find(engine, CONTRAST, method=method), find(load(engine.model), CONTRAST, method=method)
    assert there.circuit.neurons == here.circuit.neurons
    assert [row.visits for row in there.circuit] == [row.visits for row in here.circuit]
    assert there.circuit.origin.universal == here.circuit.origin.universal
    assert there.circuit.origin.model == here.circuit.origin.model
    assert there.circuit.stability == here.circuit.stability
    scores = here.scores.flat()
    assert float((there.scores.flat() - scores).abs().max()) < EXACT * float(scores.abs().max())
    return there.circuit


def test_one_process_with_prompts_in_chunks(engine, monkeypatch):
    """Every score from one run; and the mean over several tokens, some of which end a chunk, from another."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    dense = engine("llama", *ONE_PROCESS, *CHUNKED)
    for score in ("auroc", "delta", "standardised"):
        compare(dense, replace(METHOD, score=score))
    assert len(list(dense.folder.glob("vllm-*"))) == 1  # the same job served all three
    circuit = compare(dense, replace(METHOD, score="delta", position=nd.PostInstruction()))
    assert circuit.origin.engine["version"].startswith("0.32")
    assert circuit.origin.engine["tensor_parallel"] == 1


def test_two_processes_share_experts_and_layers(engine):
    """Tensor parallel for what is dense or shared, expert parallel for what is routed."""
    circuit = compare(
        engine("qwen2_moe", "--tensor-parallel-size", "2", "--enable-expert-parallel"),
        replace(METHOD, score="delta"),
    )
    assert any(row.neuron.expert is not None for row in circuit)
    assert circuit.origin.engine["expert_parallel"]
    assert circuit.origin.engine["tensor_parallel"] == 2


def test_a_rank_that_dies_leaves_nothing(engine, tmp_path):
    """Tensor parallel 2; one process is killed as soon as it is there."""
    dying = engine("llama", "--tensor-parallel-size", "2")
    killed = threading.Event()

    def kill():
        """The second worker of the group of processes that works in this test's folder."""
        while not killed.is_set():
            listed = subprocess.run(
                ["ps", "-eww", "-o", "pid,pgid,args"], capture_output=True, text=True, check=True
            ).stdout
            rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
            groups = {group for _, group, words in rows if "vllm_gather" in words and str(tmp_path) in words}
            pids = [int(pid) for pid, group, words in rows if group in groups and "VLLM::Worker_TP1" in words]
            if pids:
                os.kill(pids[0], signal.SIGKILL)
                return
            time.sleep(0.2)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        with pytest.raises(EngineError, match="vLLM ended with"):
            nd.discover(dying, CONTRAST, method=METHOD)
    finally:
        killed.set()
        thread.join()
    assert list(tmp_path.rglob("gathered.json*")) == []


def test_what_is_refused_is_said_before_it_starts(engine, tmp_path):
    """In vLLM's own parser: an option that would be wrong, and one that it does not know."""
    with pytest.raises(EngineError, match="--data-parallel-size is 2: with data parallelism"):
        nd.discover(engine("llama", "--data-parallel-size", "2"), CONTRAST, method=METHOD)
    with pytest.raises(EngineError, match="unrecognized arguments: --no-such"):
        nd.discover(engine("llama", "--no-such", "1"), CONTRAST, method=METHOD)
    assert not list(tmp_path.rglob("gathered.json"))
