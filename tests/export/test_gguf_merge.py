"""One GGUF file with the model's own adapter merged: what changes, what a type carries, and what it falls back to."""

import copy
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import peft
import pytest
import torch

from neurodial.errors import ExportError
from neurodial.export.gguf_adapter import reordered
from neurodial.export.gguf_merge import check_merge, merge_gguf
from neurodial.export.merge import read_lora
from neurodial.export.recipe import Recipe
from neurodial.model.subject import Adapter
from neurodial.model.tiny import tiny_subject

RECIPE = Recipe({0: {3: 1.5, 7: 1.0}, 1: {2: -1.0}})
MODULES = {"attn_q": "self_attn.q_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
WIDE = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}


def in_a_file(folder, *, kind="F32", size=0.3, modules=("q_proj", "up_proj", "down_proj"), **settings):
    """A tiny model whose weights stand in a GGUF file, with somebody's adapter of a given size."""
    subject = tiny_subject("llama", **WIDE, **settings)
    path = folder / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é", "▁the"])
    for layer, block in enumerate(subject.blocks):
        for name, module in MODULES.items():
            rows = block.get_submodule(module).weight.detach()
            content = reordered(subject, f"blk.{layer}.{name}", rows).contiguous().numpy()
            found = gguf.GGMLQuantizationType[kind if content.shape[1] % 32 == 0 else "F32"]
            writer.add_tensor(f"blk.{layer}.{name}.weight", gguf.quantize(content, found), raw_dtype=found)
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=list(modules), init_lora_weights=False)
        wrapped = peft.get_peft_model(copy.deepcopy(subject.model), config)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data.mul_(size)
    wrapped.save_pretrained(str(folder / "adapter"))
    adapter = Adapter(str(folder / "adapter"), "digest", merged=True)
    return replace(subject, source=str(path), adapter=adapter)


def contents(path):
    return {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in gguf.GGUFReader(path).tensors}


def merged_by_hand(subject):
    """Every weight of the file with the adapter's change and the circuit's multipliers."""
    lora = read_lora(Path(subject.adapter.path))
    wanted = contents(subject.source)
    for layer in range(subject.layers):
        for name, module in MODULES.items():
            key = f"model.layers.{layer}.{module}"
            if key in lora.tensors:
                change = reordered(subject, f"blk.{layer}.{name}", lora.change(key)).numpy()
                wanted[f"blk.{layer}.{name}.weight"] += change
        for index, multiplier in RECIPE.multipliers(layer).items():
            wanted[f"blk.{layer}.ffn_up.weight"][index] *= multiplier
    return wanted


def types(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_an_unquantised_file_holds_weights_plus_adapter_times_circuit(tmp_path):
    subject = in_a_file(tmp_path)
    done = merge_gguf(subject, RECIPE, tmp_path / "b.gguf")
    assert (done.precision, done.types) == ("float32", {"F32": 6})
    before, after, wanted = contents(subject.source), contents(tmp_path / "b.gguf"), merged_by_hand(subject)
    assert list(after) == list(before)
    for name, value in wanted.items():
        assert np.allclose(after[name], value, rtol=0, atol=1e-7), name
    assert np.abs(after["blk.0.attn_q.weight"] - before["blk.0.attn_q.weight"]).max() > 0.01
    assert np.array_equal(after["blk.0.attn_norm.weight"], before["blk.0.attn_norm.weight"])


def test_settings_are_kept_and_the_type_label_goes_where_types_are_mixed(tmp_path):
    subject = in_a_file(tmp_path)
    merge_gguf(subject, RECIPE, tmp_path / "b.gguf")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "b.gguf").fields.items()}
    assert fields["tokenizer.ggml.tokens"] == ["a", "é", "▁the"]
    assert fields["general.file_type"] == 2
    (tmp_path / "mixed").mkdir()
    mixed = in_a_file(tmp_path / "mixed", kind="Q4_1", size=0.01)
    merge_gguf(mixed, RECIPE, tmp_path / "c.gguf")
    assert "general.file_type" not in gguf.GGUFReader(tmp_path / "c.gguf").fields


def test_a_type_that_carries_the_change_is_kept(tmp_path):
    subject = in_a_file(tmp_path, kind="Q8_0", size=3.0)
    done = merge_gguf(subject, RECIPE, tmp_path / "b.gguf")
    assert (done.precision, done.types) == ("requantised", {"F32": 2, "Q8_0": 4})
    after, wanted = contents(tmp_path / "b.gguf"), merged_by_hand(subject)
    for name, value in wanted.items():
        blocks = np.abs(value).reshape(value.shape[0], -1).max(-1, keepdims=True) if value.ndim == 2 else 0
        # Half a step of a block of eight bits, and the fp16 rounding of the block's scale and of the multiplier
        assert (np.abs(after[name] - value) <= blocks * (0.5 / 127 + 2**-9) + 1e-9).all(), name


def test_a_change_that_four_bits_would_lose_goes_to_a_finer_type(tmp_path):
    """Rounded to its own type again the weight would be what it was, and the adapter gone."""
    subject = in_a_file(tmp_path, kind="Q4_1", size=0.02)
    done = merge_gguf(subject, Recipe({0: {3: 1.0}}), tmp_path / "b.gguf")
    assert sum(done.types.values()) == 6
    assert not any(way == "Q4_1" for way in done.types)
    assert {way for way in done.types if way.startswith("Q4_1 to ")} <= {"Q4_1 to Q8_0", "Q4_1 to F16"}
    before, after = contents(subject.source), contents(tmp_path / "b.gguf")
    lora, name = read_lora(Path(subject.adapter.path)), "blk.1.attn_q.weight"
    change = reordered(subject, "blk.1.attn_q", lora.change("model.layers.1.self_attn.q_proj")).numpy()
    survived = float(((after[name] - before[name]) * change).sum() / (change**2).sum())
    assert survived == pytest.approx(1, abs=0.2)
    q41 = gguf.GGMLQuantizationType.Q4_1
    again = gguf.dequantize(gguf.quantize((before[name] + change).astype(np.float32), q41), q41) - before[name]
    assert float(np.linalg.norm(again - change)) > float(np.linalg.norm(change))  # what is avoided here


def test_a_type_that_the_package_cannot_write_falls_back(tmp_path, monkeypatch):
    subject = in_a_file(tmp_path, kind="Q5_1", size=3.0)
    whole = gguf.quantize

    def quantize(data, kind):
        if kind.name == "Q5_1":
            raise NotImplementedError
        return whole(data, kind)

    monkeypatch.setattr(gguf, "quantize", quantize)
    done = merge_gguf(subject, RECIPE, tmp_path / "b.gguf")
    assert done.types == {"F32": 2, "Q5_1 to Q8_0": 4}
    assert types(tmp_path / "b.gguf")["blk.0.ffn_up.weight"] == "Q8_0"


def test_without_an_adapter_it_is_the_baked_file(tmp_path):
    subject = replace(in_a_file(tmp_path, kind="Q4_1"), adapter=None)
    done = merge_gguf(subject, RECIPE, tmp_path / "b.gguf")
    assert (done.precision, done.types) == ("quantised", {})
    before, after = contents(subject.source), contents(tmp_path / "b.gguf")
    assert [name for name in before if not np.array_equal(before[name], after[name])] == [
        "blk.0.ffn_up.weight",
        "blk.1.ffn_up.weight",
    ]


def test_an_adapter_on_what_the_file_does_not_keep_is_refused(tmp_path):
    subject = in_a_file(tmp_path, modules=["q_proj"])
    (tmp_path / "other").mkdir()
    other = in_a_file(tmp_path / "other", modules=["k_proj"])
    check_merge(subject, RECIPE)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(ExportError, match="not a plain LoRA"):
        check_merge(subject, RECIPE)
    with pytest.raises(ExportError, match=r"holds no weight .blk\.0\.attn_k\.weight"):
        check_merge(other, RECIPE)
