"""Real llama.cpp against our hooks: GGUF adapters at several scales, baked GGUF files, the model's own adapter."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from benchmarks.drivers import dequantised
from tests.engines.answers import DOSES
from tests.export.circuits import PROMPTS, dosed

from neurodial.circuit.file import read_circuit
from neurodial.export.equivalence import at_strength, log_probabilities
from neurodial.export.export_circuit import export_circuit
from neurodial.export.gguf_bake import bake_gguf
from neurodial.export.recipe import recipe_of
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.load import load
from neurodial.prompts.render import render

pytestmark = [pytest.mark.engine, pytest.mark.demo, pytest.mark.timeout(1200)]


EXACT = 2e-3
"""Two engines, thirty layers, float32 throughout: their plain models differ by as much (checked beside)."""

PLACES = 24

CIRCUIT = Path(__file__).resolve().parents[2] / "docs" / "results" / "demo" / "refusal.circuit.json"


@pytest.fixture(scope="module")
def tokens(subject):
    return [sequence[:PLACES] for sequence in render(subject.tokenizer, PROMPTS)]


def ours(subject, tokens, *interventions):
    with steer(subject, *interventions):
        return torch.cat(log_probabilities(subject.model, tokens))


def gap(one, other):
    return float((one - other).abs().max())


def divergence(one, other):
    return float((one.exp().double() * (one.double() - other.double())).sum(-1).mean())


def test_a_gguf_adapter_is_the_hook_at_every_scale(subject, scale, tokens, unquantised, llama_cpp, tmp_path):
    export_circuit(subject, scale, route="gguf-lora", output=tmp_path / "out")
    strengths = (0.0, 0.5, 1.0, -1.0, 2.0)
    adapter = tmp_path / "out" / "adapter.gguf"
    found = llama_cpp(unquantised, tokens, loras=[adapter], scales=[(strength,) for strength in strengths])
    plain = ours(subject, tokens)
    for strength, measured in zip(strengths, found, strict=True):
        wanted = ours(subject, tokens, *at_strength([scale], strength))
        assert gap(measured, wanted) < EXACT, strength
        assert (gap(measured, plain) > 0.1) is (strength != 0)


def test_the_default_scale_is_the_dial(subject, scale, tokens, unquantised, llama_cpp, tmp_path):
    export_circuit(subject, replace(scale, dial=-0.5), route="gguf-lora", output=tmp_path / "out")
    (found,) = llama_cpp(unquantised, tokens, loras=[tmp_path / "out" / "adapter.gguf"], scales=[(1.0,)])
    assert gap(found, ours(subject, tokens, replace(scale, dial=-0.5))) < EXACT


def test_a_baked_file_is_the_hook(subject, scale, tokens, llama_cpp, tmp_path):
    """All multipliers here are exact in fp16, so the file's weights are the hook's; dequantised they say so exactly."""
    export_circuit(subject, scale, route="gguf", output=tmp_path / "out")
    (exact,) = llama_cpp(dequantised(tmp_path / "out" / "model.gguf", tmp_path / "f32.gguf"), tokens)
    assert gap(exact, ours(subject, tokens, scale)) < EXACT
    assert gap(exact, ours(subject, tokens)) > 0.1


def test_a_baked_quantised_file_is_the_hook_as_it_runs(subject, tokens, llama_cpp, tmp_path):
    """On a quantised file llama.cpp rounds activations to eight bits too, so it is off without any circuit.

    Baked it is as far from the hook as plain from plain. So that this shows something, the circuit is a discovered one,
    whose effect is far above that floor.
    """
    scale = Scale(read_circuit(CIRCUIT), force=True)
    export_circuit(subject, scale, route="gguf", output=tmp_path / "out")
    plain, hook = ours(subject, tokens), ours(subject, tokens, scale)
    (found,) = llama_cpp(tmp_path / "out" / "model.gguf", tokens)
    (unsteered,) = llama_cpp(subject.source, tokens)
    assert divergence(hook, found) < 2 * divergence(plain, unsteered)
    assert divergence(hook, found) < 0.25 * divergence(hook, plain)


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_a_baked_plain_file_is_the_hook(kind, subject, scale, tokens, unquantised, llama_cpp, tmp_path):
    source = unquantised if kind == "F32" else dequantised(subject.source, tmp_path / "f16.gguf", np.float16)
    plain = replace(subject, source=str(source))
    recipe = recipe_of(plain, [scale])
    assert bake_gguf(plain, recipe, tmp_path / "baked.gguf") == {"F32": "float32", "F16": "float16"}[kind]
    found, (unsteered,) = llama_cpp(tmp_path / "baked.gguf", tokens), llama_cpp(source, tokens)
    hook = ours(subject, tokens, scale)
    # In F16 llama.cpp rounds activations to half precision as well: measured 1e-2 without any circuit.
    assert gap(found[0], hook) < (EXACT if kind == "F32" else 3 * gap(unsteered, ours(subject, tokens)))
    assert gap(found[0], unsteered) > 0.1


def test_the_models_own_adapter_and_the_circuit_travel_in_one_file(tokens, llama_cpp, tmp_path):
    """The organism on every projection, merged and quantised again, against adapter and hook in float32."""
    tuned = load("demo")
    scale = Scale(read_circuit(CIRCUIT))
    done = export_circuit(tuned, scale, route="gguf-merged", output=tmp_path / "out")
    travel = done.manifest.adapter
    assert travel.how == "merged and re-quantised"
    assert sum(travel.types.values()) == 210
    (found,) = llama_cpp(tmp_path / "out" / "model.gguf", tokens)
    hook, plain, bare = ours(tuned, tokens, scale), ours(tuned, tokens), ours(load("demo-base"), tokens)
    assert divergence(hook, found) < 0.25 * divergence(hook, plain)  # the circuit is in it
    assert divergence(plain, bare) > 4 * divergence(hook, found)  # and so is the adapter


def test_the_models_own_adapter_travels_beside_both(subject, scale, tokens, unquantised, llama_cpp, tmp_path):
    """A foreign adapter on queries, keys and MLP, whose rows llama.cpp keeps in another order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        modules = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=modules, init_lora_weights=False)
        wrapped = peft.get_peft_model(copy.deepcopy(subject.model), config)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.data.mul_(0.3)
    wrapped.save_pretrained(str(tmp_path / "adapter"))
    tuned = load("demo-base", adapter=tmp_path / "adapter")
    both = replace(scale, circuit=dosed(tuned, DOSES))
    hook = ours(tuned, tokens, both)
    assert gap(ours(tuned, tokens), ours(subject, tokens)) > 0.1

    export_circuit(tuned, both, route="gguf-lora", output=tmp_path / "lora")
    files = [tmp_path / "lora" / "adapter.gguf", tmp_path / "lora" / "first-adapter.gguf"]
    (found,) = llama_cpp(unquantised, tokens, loras=files, scales=[(1.0, 1.0)])
    assert gap(found, hook) < EXACT

    export_circuit(tuned, both, route="gguf", output=tmp_path / "baked")
    model = dequantised(tmp_path / "baked" / "model.gguf", tmp_path / "baked.gguf")
    (found,) = llama_cpp(model, tokens, loras=[tmp_path / "baked" / "first-adapter.gguf"], scales=[(1.0,)])
    assert gap(found, hook) < EXACT
