"""Tensor parallel: two processes share each layer of a tiny model, and each holds its part of the circuit's adapter.

On one machine, and as two machines do it: a process of its own for each, which know each other by address alone.
"""

import pytest
import torch
from tests.engines.answers import distance, hooked
from tests.export.circuits import dosed

from neurodial.export.equivalence import at_strength
from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SHAPE = {
    "hidden_size": 128, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
    "vocab_size": 320,
}  # fmt: skip
DOSES = {(0, 3): 1.0, (0, 40): 0.5, (0, 63): 1.5, (1, 2): -1.0}
"""Neurons of both halves."""

EXACT = 1e-4
"""Two engines, two layers, float32; the sum over the two halves is taken in another order."""

DIALS = {"base": 0.0, "dosed": 1.0, "dosed@0.5": 0.5, "dosed@-1": -1.0}


@pytest.mark.parametrize("machines", [1, 2])
def test_every_dial_is_the_hook_on_two_processes(vllm, tmp_path, machines):
    bare = tiny_subject("llama", **SHAPE)
    bare.model.save_pretrained(tmp_path / "base")
    bare.tokenizer.save_pretrained(tmp_path / "base")
    subject = load(tmp_path / "base")
    scale = Scale(dosed(subject, DOSES))
    export_circuit(subject, scale, route="vllm", output=tmp_path / "export")
    settings = {
        "NEURODIAL_VLLM": str(tmp_path / "export"),
        "NEURODIAL_VLLM_CACHE": str(tmp_path / "cache"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    options = ["--tensor-parallel-size", "2", *vllm.lora_options(8)]
    prompt = [7, 90, 33, 201, 64, 5]
    log = tmp_path / "server.log"
    with vllm.vllm_server(tmp_path / "base", *options, log=log, nodes=machines, **settings) as address:
        answers = {name: vllm.next_tokens(address, name, prompt) for name in DIALS}
    for name, steps in answers.items():
        for dial in set(DIALS.values()):
            far = distance(steps, hooked(subject, prompt, steps, *at_strength([scale], dial)))
            assert (far < EXACT) is (dial == DIALS[name]), (name, dial, far)
    assert torch.isfinite(torch.tensor([step.log_probability for steps in answers.values() for step in steps])).all()
