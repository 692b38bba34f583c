"""Circuits of routed experts in GGUF files: rows of the stacked up projections, beside those of shared experts."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from tests.export.circuits import dosed
from tests.quantised import add_shape
from tests.zoo_checks import circuit_on

import neurodial as nd
from neurodial.errors import ExportError
from neurodial.export.export_circuit import export_circuit
from neurodial.export.gguf_bake import bake_gguf, check_gguf
from neurodial.export.recipe import Recipe
from neurodial.intervention.scale import Scale
from neurodial.model.expert_rows import up_rows
from neurodial.model.layout import MapRows
from neurodial.model.tiny import TINY_ROUTED, tiny_model, tiny_subject, tiny_tokenizer

SIZES = {
    "hidden_size": 32, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64, "head_dim": 16,
    "num_key_value_heads": 2,
}  # fmt: skip
RECIPE = Recipe({}, routed={0: {(2, 5): 1.5}, 1: {(0, 3): 1.0, (3, 7): -1.0}})


def write_model(path, model):
    """A whole mixture of experts as llama.cpp's converter writes it, matrices in Q8_0."""
    config, writer = model.config, gguf.GGUFWriter(path, "qwen2moe")
    add_shape(writer, config)
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2MOE, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        values, (block, *_) = parameter.detach(), [part for part in name.split(".") if part.isdigit()] or [""]
        if name.endswith("experts.gate_up_proj"):
            for part, half in zip(("gate", "up"), values.chunk(2, dim=1), strict=True):
                add(writer, f"blk.{block}.ffn_{part}_exps.weight", half)
        elif name.endswith("experts.down_proj"):
            add(writer, f"blk.{block}.ffn_down_exps.weight", values)
        else:
            module, _, ending = name.rpartition(".")
            add(writer, f"{names.get_name(module)}.{ending}", values[0] if "shared_expert_gate" in name else values)
    finish(writer)
    return path


def add_tokenizer(writer):
    """The byte tokenizer with one merge, without which transformers reads none."""
    words = sorted(tiny_tokenizer().get_vocab().items(), key=lambda pair: pair[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*(word for word, _ in words), "he"])
    writer.add_token_types([1] * 256 + [3] * 3 + [1])
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_pad_token_id(258)


def add(writer, name, values, kind="Q8_0"):
    found = gguf.GGMLQuantizationType[kind if values.dim() > 1 else "F32"]
    writer.add_tensor(name, gguf.quantize(values.contiguous().numpy(), found), raw_dtype=found)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def contents(path):
    return {t.name: gguf.dequantize(t.data, t.tensor_type).copy() for t in gguf.GGUFReader(path).tensors}


def test_a_circuit_of_routed_and_shared_experts_is_baked_into_a_quantised_file(tmp_path):
    subject = nd.load(write_model(tmp_path / "a.gguf", tiny_model("qwen2_moe", **SIZES)))
    assert [site.shape for _, site in subject.layout.experts] == [(4, 32)] * 2
    assert subject.widths == (64, 64)  # of the shared expert, as the file states it
    export = export_circuit(subject, Scale(circuit_on(subject)), route="gguf", output=tmp_path / "out")
    [check] = export.checks
    assert check.agrees
    assert check.effect > 100 * check.difference
    before, after = contents(tmp_path / "a.gguf"), contents(tmp_path / "out" / "model.gguf")
    changed = [name for name, values in before.items() if not np.array_equal(values, after[name])]
    assert sorted(changed) == [f"blk.{n}.ffn_up_{part}.weight" for n in (0, 1) for part in ("exps", "shexp")]


def stacked(path, subject, *, fused=False, bias=False, experts=4):
    """A file with the experts' up projections alone, gate and up in one tensor where `fused`."""
    writer = gguf.GGUFWriter(path, "qwen2moe")
    for layer, site in subject.layout.experts:
        both = subject.blocks[layer].get_submodule(site.module).gate_up_proj.detach()[:experts]
        name, values = ("gate_up", both) if fused else ("up", both.chunk(2, dim=1)[1])
        add(writer, f"blk.{layer}.ffn_{name}_exps.weight", values, kind="Q4_0")
        if bias:
            writer.add_tensor(f"blk.{layer}.ffn_{name}_exps.bias", np.ones(values.shape[:2], np.float32))
    finish(writer)
    return replace(subject, source=str(path))


@pytest.mark.parametrize(("fused", "bias"), [(False, True), (True, False)])
def test_only_the_rows_of_the_circuits_experts_change(fused, bias, tmp_path):
    subject = stacked(tmp_path / "a.gguf", tiny_subject("qwen2_moe", **SIZES), fused=fused, bias=bias)
    bake_gguf(subject, RECIPE, tmp_path / "b.gguf")
    wanted, found = contents(tmp_path / "a.gguf"), contents(tmp_path / "b.gguf")
    for layer in RECIPE.routed:
        for (expert, index), multiplier in RECIPE.routed_multipliers(layer).items():
            for name, values in wanted.items():
                if name.startswith(f"blk.{layer}."):
                    values[expert, index + 32 * fused] *= multiplier
    assert all(np.array_equal(values, found[name]) for name, values in wanted.items())


def test_what_a_file_does_not_hold_is_refused(tmp_path):
    subject = stacked(tmp_path / "a.gguf", tiny_subject("qwen2_moe", **SIZES), experts=3)
    with pytest.raises(
        ExportError, match=r"no blk.0.ffn_up_exps.weight of 32 rows for each of 4 experts.*--as weights"
    ):
        check_gguf(subject, RECIPE)
    other = replace(tiny_subject("gpt_oss"), source=str(tmp_path / "a.gguf"))
    with pytest.raises(ExportError, match=r"up projection of the experts does not scale.*--as weights or lora"):
        check_gguf(other, RECIPE)


def test_rows_that_scale_neurons_of_experts_are_measured_and_the_weights_given_back():
    found = {}
    for name in TINY_ROUTED:
        subject = tiny_subject(name)
        before = {key: value.clone() for key, value in subject.model.state_dict().items()}
        found[name] = up_rows(subject, next(subject.layout.experts)[0])
        assert all(torch.equal(before[key], value) for key, value in subject.model.state_dict().items())
    second = MapRows("gate_up_proj", "second")
    assert found == {"mixtral": second, "qwen2_moe": second, "deepseek_v3": second, "gpt_oss": None}


def test_an_adapter_names_shared_experts_as_llama_cpp_does(tmp_path):
    subject = tiny_subject("qwen2_moe")
    export_circuit(
        subject, Scale(dosed(subject, {(0, 3): 1.0, (1, 2): 0.5})), route="gguf-lora", output=tmp_path / "out"
    )
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "out" / "adapter.gguf").tensors}
    assert names == {f"blk.{n}.ffn_down_shexp.weight.lora_{part}" for n in (0, 1) for part in "ab"}
