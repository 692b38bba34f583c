"""GGUF files: adapters for llama.cpp, and circuits baked into rows of up projections, quantised ones too."""

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tests.export.circuits import dosed, gap, hooked, plain
from tests.records import record_of
from tests.subjects import shared
from tests.tolerance import of_log_probs

from neurodial.errors import ExportError
from neurodial.export.export_circuit import export_circuit, verify_export
from neurodial.export.gguf_adapter import read_gguf_lora, reordered, write_converted
from neurodial.export.gguf_bake import SCALES, bake_gguf, check_gguf, scaled_row, targets
from neurodial.export.merge import read_lora, scaled_rows
from neurodial.export.recipe import Recipe
from neurodial.intervention.scale import Scale
from neurodial.model.tiny import tiny_subject

LLAMA_CPP_FAMILIES = ["llama", "smollm3", "qwen3", "gemma2", "phi3", "gpt2", "gpt_neox"]


# ------------------------------------------------------------------------------------------- adapters


@pytest.mark.parametrize("family", LLAMA_CPP_FAMILIES)
def test_a_gguf_adapter_holds_the_hook(family, tmp_path):
    subject = shared(family)
    scale = Scale(dosed(subject), dial=-0.5)
    done = export_circuit(subject, scale, route="gguf-lora", output=tmp_path / "out")
    assert [one.strength for one in done.checks] == [1.0, 0.5, -1.0]
    assert max(one.difference for one in done.checks) <= of_log_probs(subject)
    reader = gguf.GGUFReader(tmp_path / "out" / "adapter.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert (fields["general.type"], fields["adapter.type"]) == ("adapter", "lora")
    assert fields["adapter.lora.alpha"] == -0.5 * 3
    shapes = {tensor.name: tuple(int(n) for n in tensor.shape) for tensor in reader.tensors}
    assert shapes["blk.0.ffn_down.weight.lora_a"] == (24, 3)  # innermost axis first, as llama.cpp counts
    assert shapes["blk.0.ffn_down.weight.lora_b"] == (3, 16)


def test_a_family_that_llama_cpp_does_not_run_is_refused(tmp_path):
    subject = shared("opt")
    with pytest.raises(ExportError, match="calls opt models is not known"):
        export_circuit(subject, Scale(dosed(subject)), route="gguf-lora", output=tmp_path / "out")


def test_an_adapter_of_another_architecture_is_refused(tmp_path):
    subject = shared("qwen2")
    export_circuit(subject, Scale(dosed(subject)), route="gguf-lora", output=tmp_path / "out")
    with pytest.raises(ExportError, match="is for qwen2"):
        read_gguf_lora(shared("llama"), tmp_path / "out" / "adapter.gguf")


def test_the_models_own_adapter_is_converted_beside(adapted, tmp_path):
    subject = adapted("llama", ["q_proj", "v_proj", "down_proj"])
    done = export_circuit(subject, Scale(dosed(subject)), route="gguf-lora", output=tmp_path / "out")
    assert (done.manifest.adapter.how, done.manifest.adapter.file) == ("second adapter", "first-adapter.gguf")
    reader = gguf.GGUFReader(tmp_path / "out" / "first-adapter.gguf")
    names = {tensor.name for tensor in reader.tensors}
    assert "blk.1.attn_v.weight.lora_a" in names
    assert len(names) == 2 * 2 * 3
    assert reader.fields["adapter.lora.alpha"].contents() == 4.0
    lora = read_lora(Path(subject.adapter.path))
    wanted = lora.tensors["model.layers.0.self_attn.v_proj"][1]
    assert np.array_equal(next(t.data for t in reader.tensors if t.name == "blk.0.attn_v.weight.lora_b"), wanted)


def test_rows_of_queries_are_interleaved_as_llama_cpp_keeps_them():
    """Head of width 8: rows 0..7 become 0 4 1 5 2 6 3 7."""
    rows = torch.arange(16.0)[:, None]
    wanted = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert reordered(shared("llama"), "blk.0.attn_q", rows)[:, 0].tolist() == wanted
    assert reordered(shared("llama"), "blk.0.attn_v", rows)[:, 0].tolist() == list(range(16))
    assert reordered(shared("qwen2"), "blk.0.attn_q", rows)[:, 0].tolist() == list(range(16))


def test_an_adapter_on_what_a_gguf_file_keeps_otherwise_is_refused(adapted, tmp_path):
    subject = adapted("gpt_neox", ["query_key_value"])
    with pytest.raises(ExportError, match="another form"):
        write_converted(subject, read_lora(Path(subject.adapter.path)), tmp_path / "x.gguf")


# ------------------------------------------------------------------------------------------- rows


def random_row(kind, blocks=3):
    """A row of random integers with ordinary scales."""
    generator = np.random.default_rng(0)
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    row = generator.integers(0, 256, (blocks, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        scales = generator.uniform(0.01, 0.1, blocks).astype(np.float16)
        row[:, offset : offset + 2] = scales[:, None].view(np.uint8)
    return row.reshape(-1)


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("multiplier", [0.0, -1.0, 2.0, -0.5, 0.7, -1.3])
def test_a_quantised_row_times_a_number_is_what_dequantises_to_it(kind, multiplier):
    row = random_row(kind)
    before = row.copy()
    after = scaled_row(row, kind, multiplier)
    quantisation = gguf.GGMLQuantizationType[kind]
    wanted = multiplier * gguf.dequantize(row[None], quantisation).astype(np.float64)
    found = gguf.dequantize(after[None], quantisation)
    assert np.array_equal(row, before)
    assert np.abs(wanted).max() > 0.01 or multiplier == 0
    if multiplier in {0.0, -1.0, 2.0, -0.5}:
        assert np.array_equal(found, wanted.astype(np.float32))
    else:
        # fp16 has a spacing of 2^-10; types with two scales subtract two rounded numbers of the size of the largest
        assert np.abs(found - wanted).max() <= 2**-10 * 2 * np.abs(gguf.dequantize(row[None], quantisation)).max()


@pytest.mark.parametrize(("kind", "dtype"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_a_plain_row_times_a_number(kind, dtype):
    values = torch.linspace(-3, 3, 64).to(dtype)
    found = torch.from_numpy(scaled_row(values.view(torch.uint8).numpy(), kind, 0.7)).view(dtype)
    assert torch.equal(found, (values.double() * 0.7).to(dtype))


@pytest.mark.parametrize("kind", ["MXFP4", "IQ2_XXS", "TQ1_0"])
def test_a_type_whose_scales_cannot_be_patched_is_refused(kind):
    with pytest.raises(ExportError, match=f"type {kind} can't be scaled"):
        scaled_row(np.zeros(0, np.uint8), kind, 0.5)


def test_a_scale_that_does_not_fit_is_refused():
    row = np.zeros(34, np.uint8)
    row[:2] = np.array([6e4], np.float16).view(np.uint8)
    with pytest.raises(ExportError, match="does not fit float16"):
        scaled_row(row, "Q8_0", -2.0)


# ------------------------------------------------------------------------------------------- files


def write_file(path, subject, *, kind="F32", architecture=None, bias=False, rows=None, **fields):
    """A GGUF file with the up projections of a tiny model and nothing else."""
    writer = gguf.GGUFWriter(path, architecture or {"phi3": "phi3"}.get(record_of(subject).name, "llama"))
    quantisation = gguf.GGMLQuantizationType[kind]
    for name, value in fields.items():
        writer.add_uint16(name.replace("_", "."), value)
    for layer, block in enumerate(subject.blocks):
        weight = block.get_submodule(record_of(subject).up).weight.detach().numpy()[:rows]
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", gguf.quantize(weight, quantisation), raw_dtype=quantisation)
        if bias:
            writer.add_tensor(f"blk.{layer}.ffn_up.bias", np.arange(weight.shape[0], dtype=np.float32) + 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return replace(subject, source=str(path))


def contents(path):
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


RECIPE = Recipe({0: {3: 1.5, 7: 1.0}, 1: {2: -1.0}})


@pytest.mark.parametrize(("family", "kind"), [("llama", "F32"), ("llama", "Q8_0"), ("phi3", "F16"), ("phi3", "Q4_1")])
def test_only_the_rows_of_the_circuit_change(family, kind, tmp_path):
    subject = tiny_subject(family, hidden_size=32, num_attention_heads=4, num_key_value_heads=2)
    subject = write_file(tmp_path / "a.gguf", subject, kind=kind, bias=True)
    bake_gguf(subject, RECIPE, tmp_path / "b.gguf")
    before, after = contents(tmp_path / "a.gguf"), contents(tmp_path / "b.gguf")
    first = 24 if family == "phi3" else 0
    for layer in (0, 1):
        wanted = {name: before[f"blk.{layer}.ffn_up.{name}"].copy() for name in ("weight", "bias")}
        for index, multiplier in RECIPE.multipliers(layer).items():
            wanted["weight"][first + index] *= multiplier
            wanted["bias"][first + index] *= multiplier
        assert np.array_equal(after[f"blk.{layer}.ffn_up.weight"], wanted["weight"])
        assert np.array_equal(after[f"blk.{layer}.ffn_up.bias"], wanted["bias"])
    assert (tmp_path / "a.gguf").stat().st_size == (tmp_path / "b.gguf").stat().st_size


def test_a_file_of_another_architecture_is_refused(tmp_path):
    subject = write_file(tmp_path / "a.gguf", tiny_subject("llama"), architecture="gpt-oss")
    with pytest.raises(ExportError, match="architecture gpt-oss"):
        check_gguf(subject, RECIPE)


def test_a_model_that_is_no_gguf_file_is_refused(checkpoint):
    with pytest.raises(ExportError, match="not a GGUF file"):
        check_gguf(checkpoint(), RECIPE)


def test_a_model_without_a_gate_is_refused(tmp_path):
    bare = tiny_subject("gpt2")
    subject = replace(bare, source=str(tmp_path / "a.gguf"))
    with pytest.raises(ExportError, match="no gate"):
        check_gguf(subject, RECIPE)


def test_a_part_of_a_split_file_is_refused(tmp_path):
    subject = write_file(tmp_path / "a.gguf", tiny_subject("llama"), split_count=3)
    with pytest.raises(ExportError, match="one of 3 parts"):
        check_gguf(subject, RECIPE)


def test_a_file_of_another_shape_is_refused(tmp_path):
    subject = write_file(tmp_path / "a.gguf", tiny_subject("llama"), rows=20)
    with pytest.raises(ExportError, match="of 24 rows"):
        targets(subject, RECIPE)


def test_an_adapters_up_rows_are_scaled_with_the_base(adapted):
    """(W + BA) with row j scaled = W with row j scaled + (B with row j scaled) A."""
    subject = adapted("llama", ["up_proj"])
    lora = read_lora(Path(subject.adapter.path))
    scaled = scaled_rows(subject, RECIPE, lora)
    module = "model.layers.0.mlp.up_proj"
    wanted = lora.change(module)
    for index, multiplier in RECIPE.multipliers(0).items():
        wanted[index] *= multiplier
    assert torch.allclose(scaled.change(module), wanted, atol=1e-7)
    assert not torch.allclose(scaled.change(module), lora.change(module), atol=1e-2)


@pytest.mark.demo
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_circuit_is_baked_into_a_real_quantised_file(tmp_path):
    from neurodial.model.load import load

    subject = load("demo-base")
    circuit = dosed(subject, {(5, 30): 1.0, (12, 700): 2.0, (20, 9): 0.3, (29, 1000): -1.0, (29, 4): 1.5})
    scale = Scale(circuit, dial=1.0)
    done = export_circuit(subject, scale, route="gguf", output=tmp_path / "out")
    assert done.manifest.precision == "quantised"
    baked = load(tmp_path / "out" / "model.gguf")
    found = gap(plain(subject, baked.model), hooked(subject, scale))
    assert found < 5e-3 < gap(plain(subject), hooked(subject, scale))  # the dose 0.3 is rounded to fp16
    assert all(one.agrees for one in verify_export(tmp_path / "out", subject=subject))
