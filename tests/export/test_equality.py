"""Law: hook = LoRA = IA3 = baked weights, and none of them is the unsteered model."""

import copy

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from tests.export.circuits import agree, dosed, gap, hooked, plain
from tests.subjects import FAMILIES, SOME_FAMILIES, shared
from transformers import AutoModelForCausalLM

from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject

STRENGTHS = (0.0, 0.5, 1.0, -1.0, 2.0)


def set_strength(model, strength):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.set_scale(module.active_adapters[0], strength)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_through_peft_is_the_hook_at_every_strength(family, tmp_path):
    subject = shared(family)
    scale = Scale(dosed(subject))
    export_circuit(subject, scale, route="lora", output=tmp_path / "out")
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(subject.model), str(tmp_path / "out"))
    for strength in STRENGTHS:
        set_strength(adapted, strength)
        measured = plain(subject, adapted)
        agree(subject, measured, hooked(subject, scale, strength=strength))
        assert (gap(measured, plain(subject)) > 0.01) is (strength != 0)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_lora_through_load_adapter_is_the_hook(family, tmp_path):
    subject = shared(family)
    scale = Scale(dosed(subject))
    export_circuit(subject, scale, route="lora", output=tmp_path / "out")
    model = copy.deepcopy(subject.model)
    model.load_adapter(str(tmp_path / "out"))
    for strength in STRENGTHS:
        set_strength(model, strength)
        agree(subject, plain(subject, model), hooked(subject, scale, strength=strength))


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_lora_ia3_and_weights_are_the_hook(family, tmp_path):
    subject = shared(family)
    scale = Scale(dosed(subject), dial=0.75)
    wanted = hooked(subject, scale)
    assert gap(wanted, plain(subject)) > 0.05
    for route in ("lora", "ia3"):
        export_circuit(subject, scale, route=route, output=tmp_path / route)
        adapted = peft.PeftModel.from_pretrained(copy.deepcopy(subject.model), str(tmp_path / route))
        agree(subject, plain(subject, adapted), wanted)
        agree(subject, plain(subject, adapted.merge_and_unload()), wanted)
    export_circuit(subject, scale, route="weights", output=tmp_path / "weights")
    baked = AutoModelForCausalLM.from_pretrained(tmp_path / "weights").eval()
    agree(subject, plain(subject, baked), wanted)


def test_ia3_multiplies_bit_for_bit_as_the_hook_does(tmp_path):
    subject = shared("llama")
    scale = Scale(dosed(subject), dial=0.7)
    export_circuit(subject, scale, route="ia3", output=tmp_path / "ia3")
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(subject.model), str(tmp_path / "ia3"))
    assert torch.equal(plain(subject, adapted), hooked(subject, scale))


def test_the_default_strength_is_the_dial_that_was_asked_for(tmp_path):
    subject = shared("llama")
    circuit = dosed(subject)
    export_circuit(subject, Scale(circuit, dial=-0.5), route="lora", output=tmp_path / "out")
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(subject.model), str(tmp_path / "out"))
    agree(subject, plain(subject, adapted), hooked(subject, Scale(circuit, dial=-0.5)))
    assert gap(plain(subject, adapted), hooked(subject, Scale(circuit, dial=0.5))) > 0.01


def test_matrices_hold_the_doses_of_dial_one_whatever_the_dial(tmp_path):
    from safetensors.torch import load_file

    subject = shared("llama")
    files = []
    for dial in (1.0, 0.25):
        export_circuit(subject, Scale(dosed(subject), dial=dial), route="lora", output=tmp_path / str(dial))
        files.append(load_file(tmp_path / str(dial) / "adapter_model.safetensors"))
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])


def test_ranks_are_uniform_and_padded_with_zeros(tmp_path):
    from safetensors.torch import load_file

    subject = shared("llama")
    export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    one = "base_model.model.model.layers.1.mlp.down_proj.lora_"
    assert tensors[f"{one}A.weight"].shape == (3, 24)
    assert int(tensors[f"{one}A.weight"].count_nonzero()) == 1
    assert not tensors[f"{one}B.weight"][:, 1:].any()


@pytest.mark.parametrize("route", ["lora", "ia3", "weights"])
def test_several_circuits_add_their_doses(route, tmp_path):
    subject = shared("qwen2")
    scales = (
        Scale(dosed(subject, {(0, 3): 1.0, (1, 2): 0.5}, "one"), dial=0.5),
        Scale(dosed(subject, {(0, 3): 0.5, (0, 9): 1.0}, "two"), dial=-1.0),
    )
    export_circuit(subject, scales, route=route, output=tmp_path / "out")
    if route == "weights":
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    else:
        model = peft.PeftModel.from_pretrained(copy.deepcopy(subject.model), str(tmp_path / "out"))
    agree(subject, plain(subject, model), hooked(subject, *scales))
    assert gap(plain(subject, model), hooked(subject, scales[0])) > 0.01


# ------------------------------------------------------------------------------------------- a model with an adapter


ADAPTED = [("llama", ["q_proj", "down_proj", "up_proj"]), ("gpt2", ["mlp.c_proj", "c_attn"]), ("opt", ["fc1", "fc2"])]


@pytest.mark.parametrize(("family", "modules"), ADAPTED)
def test_an_adapter_travels_merged_into_the_weights(family, modules, adapted, tmp_path):
    subject = adapted(family, modules)
    scale = Scale(dosed(subject))
    done = export_circuit(subject, scale, route="weights", output=tmp_path / "out")
    assert done.manifest.adapter.how == "merged"
    baked = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    agree(subject, plain(subject, baked), hooked(subject, scale))
    bare = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    assert gap(plain(subject), plain(subject, bare)) > 0.05


@pytest.mark.parametrize(("family", "modules"), ADAPTED)
def test_an_adapter_travels_beside_a_lora(family, modules, adapted, tmp_path):
    subject = adapted(family, modules)
    scale = Scale(dosed(subject))
    done = export_circuit(subject, scale, route="lora", output=tmp_path / "out")
    assert (done.manifest.adapter.how, done.manifest.adapter.file) == ("second adapter", "first-adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    both = peft.PeftModel.from_pretrained(base, str(tmp_path / "out" / "first-adapter"), adapter_name="first")
    both.load_adapter(str(tmp_path / "out"), adapter_name="circuit")
    both.base_model.set_adapter(["first", "circuit"])
    agree(subject, plain(subject, both.eval()), hooked(subject, scale))


def test_an_adapter_travels_in_a_merged_base_beside_an_ia3(adapted, tmp_path):
    subject = adapted("llama", ["q_proj", "down_proj"])
    scale = Scale(dosed(subject))
    done = export_circuit(subject, scale, route="ia3", output=tmp_path / "out")
    assert (done.manifest.adapter.how, done.manifest.adapter.file) == ("merged", "merged-base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "merged-base").eval()
    wrapped = peft.PeftModel.from_pretrained(base, str(tmp_path / "out"))
    agree(subject, plain(subject, wrapped), hooked(subject, scale))


def test_an_adapter_that_stays_apart_is_checked_beside_it(adapted, tmp_path):
    """As on a quantised base, where PEFT's layers stay in the model."""
    adapted("llama", ["q_proj", "down_proj"])
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    from dataclasses import replace

    from neurodial.model.subject import Adapter

    wrapped = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    subject = replace(tiny_subject("llama"), model=wrapped.get_base_model())
    subject = replace(subject, adapter=Adapter(str(tmp_path / "adapter"), "digest", merged=False))
    done = export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    assert "unmerged" in done.checks[0].engine
    merged = load(tmp_path / "base", adapter=tmp_path / "adapter", dtype="float32")
    apart = peft.PeftModel.from_pretrained(copy.deepcopy(merged.model), str(tmp_path / "out"))
    agree(merged, plain(merged, apart), hooked(merged, Scale(dosed(merged))))
