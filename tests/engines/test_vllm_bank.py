"""Dials without LoRA in real vLLM, over HTTP and offline, against our hooks: eager, compiled, over two processes.

Every start holds all that can be held at once, as each takes most of the time: several circuits and dials in a batch,
unsteered requests among them, answers out of the prefix cache, what is refused.
"""

import json
import subprocess
import urllib.error

import pytest
import torch
from scripts.vllm_bank import CASES, ask, cached_tokens, compare, served
from tests.export.circuits import dosed

from neurodial.export.equivalence import log_probabilities
from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

EXACT = 4e-4
"""Nats; two engines, two layers, float32, logits of some tens; measured 2e-5 to 1.1e-4, where dials are 0.3 apart."""


def hold(bench):
    """Every setting is its own hook, twice, the second time out of the cache; and no other setting's."""
    found = compare(bench)
    assert found["difference"] < EXACT
    assert found["changed"] > 100 * EXACT
    assert cached_tokens(bench.address) > 0


def test_any_dial_in_each_request_experts_too(vllm, tmp_path):
    """Not compiled, experts and a shared one over two processes; and what a request may not ask for."""
    with served(CASES["experts-ep2"], tmp_path) as bench:
        hold(bench)
        for setting, word in {
            "none@1": "No circuit is called 'none@1' here: wide, other",
            "wide@nan": "not a number",
            "wide@9": "out of range",
            "wide@1,wide@2": "stands twice",
        }.items():
            with pytest.raises(urllib.error.HTTPError) as caught:
                ask(bench, setting, [1, 2, 3])
            assert caught.value.code == 400
            assert word in json.loads(caught.value.read())["error"]["message"]
        for fields, word in (
            ({"cache_salt": "neurodial:mine"}, "kept for circuits"),
            ({"vllm_xargs": {"neurodial": "wide"}, "use_beam_search": True, "n": 2}, "Beam search carries no circuits"),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                vllm.next_tokens(bench.address, "base", [1, 2, 3], 1, **fields)
            assert caught.value.code == 400
            assert word in json.loads(caught.value.read())["error"]["message"]
        assert ask(bench, "other@1", [1, 2, 3])  # and the server goes on


def test_compiled_and_over_two_processes_it_is_the_same(vllm, tmp_path):
    """More neurons in a layer than any adapter has; each process holds its half of the bank."""
    with served(CASES["tp2"], tmp_path) as bench:
        hold(bench)


OFFLINE = """
import json, os, sys
from types import SimpleNamespace
from vllm import LLM, SamplingParams
folder, prompt = sys.argv[1], json.loads(sys.argv[2])
options = dict(dtype="float32", enforce_eager=True, max_model_len=128, block_size=32, max_logprobs=-1,
               distributed_executor_backend="uni", max_num_seqs=2)

def told(run):
    try: run()
    except Exception as error: return f"{type(error).__name__}: {error}"
    return ""

def asked(*settings):
    extra = [{"neurodial": setting} if setting else None for setting in settings]
    params = [SamplingParams(max_tokens=1, temperature=0, logprobs=-1, extra_args=each) for each in extra]
    return llm.generate([{"prompt_token_ids": prompt}] * len(settings), params, use_tqdm=False)

found = {"lora": told(lambda: LLM(folder + "/model", enable_lora=True, **options))}
found["another"] = told(lambda: LLM(folder + "/another", **options))
llm = LLM(folder + "/model", **options)
settings = ["", "dosed@1", "dosed@-0.5", "dosed@2", "dosed@3"]  # more than slots, and no more at once than slots
for output, setting in zip(asked(*settings), settings):
    logprobs = output.outputs[0].logprobs[0]
    found[setting] = [logprobs[token].logprob for token in range(len(logprobs))]
llm.llm_engine.input_processor.vllm_config.scheduler_config.max_num_seqs = 3  # as the front end sees it
found["full"] = told(lambda: asked("dosed@1", "dosed@2", "dosed@3"))
core = llm.llm_engine.engine_core.engine_core
params = SamplingParams(extra_args={"neurodial": "dosed@1.0"})
request = SimpleNamespace(request_id="r", sampling_params=params, cache_salt=None, mm_features=None)
found["unsalted"] = told(lambda: core.preprocess_add_request(request))
json.dump(found, open(folder + "/found.json", "w"))
"""


def test_offline_and_what_is_refused_there(vllm, tmp_path):
    """A family that vLLM runs no LoRA on, in one process.

    Refused are a model of another seed, an adapter beside it, more settings than slots, a request without its salt.
    """
    for name, seed in (("model", 0), ("another", 1)):
        bare = tiny_subject("gpt2", seed=seed, **CASES["gpt2"].sizes)
        bare.model.save_pretrained(tmp_path / name)
        bare.tokenizer.save_pretrained(tmp_path / name)
    subject = load(tmp_path / "model")
    circuit = dosed(subject)
    export_circuit(subject, Scale(circuit), route="vllm-bank", output=tmp_path / "dosed")
    prompt = [7, 90, 33, 201, 64, 5]
    settings = vllm.VLLM_SETTINGS | {
        "NEURODIAL_VLLM": str(tmp_path / "dosed"), "NEURODIAL_VLLM_SLOTS": "2", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }  # fmt: skip
    command = [vllm.interpreter("vLLM"), "-c", OFFLINE, str(tmp_path), json.dumps(prompt)]
    done = subprocess.run(command, env=vllm.environment(**settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    for setting, dial in (("", 0), ("dosed@1", 1.0), ("dosed@-0.5", -0.5), ("dosed@2", 2.0), ("dosed@3", 3.0)):
        with steer(subject, Scale(circuit, dial)):
            (wanted,) = log_probabilities(subject.model, [tuple(prompt)])
        assert float((torch.tensor(found[setting]) - wanted[-1]).abs().max()) < EXACT
    assert "--enable-lora is True: an adapter and a bank on one layer" in found["lora"]
    assert "the circuit 'dosed' is another model's: columns of layer 0" in found["another"]
    assert "2 settings of circuits and dials are in use" in found["full"]
    assert "without the cache_salt of that" in found["unsalted"]
