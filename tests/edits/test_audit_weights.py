"""What was done to a checkpoint: our own exports are found exactly, and other edits told from them."""

import json
import shutil

import gguf
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.edits.conftest import to_gguf
from tests.export.circuits import dosed, hooked

from neurodial.cli.main import main
from neurodial.edits import tensor_pairs
from neurodial.edits.audit_weights import audit_weights
from neurodial.errors import CircuitError, ModelError, ModelMismatchError
from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale
from neurodial.model.tiny import tiny_model

DOSES = {(0, 3): 1.0, (0, 7): 0.5, (0, 20): 1.5, (0, 90): 0.013, (1, 2): -1.0, (1, 95): 0.337}


def check(audit, doses=DOSES, parts=("down",), most=2.0**-8):
    """The neurons of the doses and no others, each multiplier within its stated error, which is small."""
    assert audit.verdict == "neurons scaled", audit
    assert [(row.layer, row.index) for row in audit.neurons] == sorted(doses)
    for row in audit.neurons:
        true = 1 - doses[row.layer, row.index]
        assert abs(row.multiplier - true) <= row.error + 2**-52, row
        assert row.error <= most * max(abs(true), 2**-6), row
        assert row.parts == parts


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3", "gpt2", "gpt_neox", "opt"])
@pytest.mark.parametrize(("dtype", "most"), [("float32", 2**-23), ("bfloat16", 2**-8), ("float16", 2**-11)])
def test_our_own_weights_are_found_exactly(family, dtype, most, checkpoint, tmp_path):
    subject = checkpoint(family, dtype)
    export_circuit(subject, Scale(dosed(subject, DOSES)), route="weights", output=tmp_path / "out")
    check(audit_weights(str(tmp_path / "base"), str(tmp_path / "out")), most=most)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("route", ["lora", "ia3", "vllm", "gguf-lora"])
def test_our_own_adapters_are_found_exactly(family, route, checkpoint, tmp_path):
    if (route, family) in {("vllm", "gpt2"), ("vllm", "opt"), ("gguf-lora", "opt")}:
        pytest.skip("no such export")
    subject = checkpoint(family)
    export_circuit(subject, Scale(dosed(subject, DOSES), 0.5), route=route, output=tmp_path / "out")
    halved = {place: dose / 2 for place, dose in DOSES.items()}
    check(audit_weights(str(tmp_path / "base"), str(tmp_path / "out")), halved, most=2**-20)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_our_own_gguf_is_found_exactly_in_the_scales_of_its_blocks(kind, checkpoint, tmp_path):
    from dataclasses import replace

    from neurodial.export.gguf_bake import scale_rows, targets
    from neurodial.export.recipe import Recipe

    subject = checkpoint()
    base = to_gguf(tmp_path / "base", tmp_path / "base.gguf", kind)
    shutil.copyfile(base, tmp_path / "out.gguf")
    layers = {layer: {i: dose for (at, i), dose in DOSES.items() if at == layer} for layer in (0, 1)}
    recipe = Recipe(layers)
    scale_rows(tmp_path / "out.gguf", recipe, targets(replace(subject, source=base), recipe))
    check(audit_weights(base, str(tmp_path / "out.gguf")), parts=("up",), most=2**-11 if kind != "F32" else 2**-23)


@pytest.mark.parametrize("kind", ["Q8_0", "F16", "BF16", "Q4_1"])
def test_weights_converted_to_gguf_afterwards_are_found_within_a_stated_error(kind, checkpoint, tmp_path):
    """The edit, then the conversion to another type: each number is off by up to half a step of its block."""
    subject = checkpoint(dtype="bfloat16")
    export_circuit(subject, Scale(dosed(subject, DOSES)), route="weights", output=tmp_path / "out")
    converted = to_gguf(tmp_path / "out", tmp_path / "out.gguf", kind)
    doses = {place: dose for place, dose in DOSES.items() if abs(dose) > (0.02 if kind == "Q8_0" else 0.2)}
    audit = audit_weights(str(tmp_path / "base"), converted)
    found = {(row.layer, row.index): row for row in audit.neurons}
    assert audit.verdict == "neurons scaled"
    assert doses.keys() <= found.keys() <= DOSES.keys()
    for place, row in found.items():
        assert abs(row.multiplier - (1 - DOSES[place])) <= row.error
        assert row.error < {"Q8_0": 0.02, "F16": 2**-7, "BF16": 2**-7, "Q4_1": 0.2}[kind]
    plain = audit_weights(str(tmp_path / "base"), to_gguf(tmp_path / "base", tmp_path / "plain.gguf", kind))
    assert plain.verdict == "same but for rounding"
    assert any("another form" in note for note in plain.notes)


def test_two_files_quantised_apart_are_told_from_each_other(checkpoint, tmp_path):
    subject = checkpoint()
    export_circuit(subject, Scale(dosed(subject, DOSES)), route="weights", output=tmp_path / "out")
    base = to_gguf(tmp_path / "base", tmp_path / "base.gguf", "Q8_0")
    audit = audit_weights(base, to_gguf(tmp_path / "out", tmp_path / "out.gguf", "Q8_0"))
    assert audit.verdict == "neurons scaled"
    found = {(row.layer, row.index): row for row in audit.neurons}
    assert {place for place, dose in DOSES.items() if abs(dose) > 0.05} <= found.keys() <= DOSES.keys()
    assert all(abs(row.multiplier - (1 - DOSES[place])) <= row.error < 0.05 for place, row in found.items())


def test_the_circuit_does_what_the_edit_did(checkpoint, tmp_path):
    subject = checkpoint()
    circuit = dosed(subject, DOSES)
    export_circuit(subject, Scale(circuit), route="weights", output=tmp_path / "out")
    audit = audit_weights(str(tmp_path / "base"), str(tmp_path / "out"))
    found = audit.circuit()
    assert [row.dose for row in found] == pytest.approx([row.dose for row in circuit], abs=2**-22)
    one, other = hooked(subject, Scale(found)), hooked(subject, Scale(circuit))
    assert float((one - other).abs().max()) < 1e-4
    assert float((one - hooked(subject, Scale(circuit, 0.0))).abs().max()) > 1e-2


# ------------------------------------------------------------------------------------------- other edits


def scale_row(key, tensor, name, row, factor):
    if key != f"model.layers.1.mlp.{name}.weight":
        return None
    tensor[row] *= factor
    return tensor


def test_up_rows_and_columns_multiply_and_a_gate_has_no_dose(checkpoint, edited, tmp_path):
    checkpoint(dtype="bfloat16")

    def twice(key, tensor):
        if key == "model.layers.1.mlp.down_proj.weight":
            tensor[:, 4] *= 0.5
            return tensor
        return scale_row(key, tensor, "up_proj", 4, 3.0)

    base = str(tmp_path / "base")
    [row] = audit_weights(base, edited(twice)).neurons
    assert row.parts == ("down", "up")
    assert abs(row.multiplier - 1.5) <= row.error < 0.02
    gated = audit_weights(base, edited(lambda key, tensor: scale_row(key, tensor, "gate_proj", 4, 0.5), "gated"))
    [row] = gated.neurons
    assert (row.parts, row.dose) == (("gate",), None)
    with pytest.raises(CircuitError, match="activation function"):
        gated.circuit()


def test_what_comes_beside_the_scaling_is_said(checkpoint, edited, tmp_path):
    checkpoint()

    def change(key, tensor):
        if key == "model.norm.weight":
            return tensor * 1.1
        return scale_row(key, tensor, "up_proj", 4, 0.0)

    audit = audit_weights(str(tmp_path / "base"), edited(change))
    assert audit.verdict == "neurons scaled and more"
    assert [(row.layer, row.index, row.multiplier) for row in audit.neurons] == [(1, 4, 0.0)]
    assert {part.title for part in audit.changed} == {"model.norm.weight", "model.layers.N.mlp.up_proj.weight"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_removed_direction_is_told(dtype, share, checkpoint, edited, tmp_path):
    checkpoint(dtype=dtype)
    direction = torch.nn.functional.normalize(torch.arange(64, dtype=torch.float64).sin(), dim=0)

    def ablate(key, tensor):
        if key.endswith(("o_proj.weight", "down_proj.weight")):
            return tensor - share * torch.outer(direction, direction @ tensor)
        return tensor - share * torch.outer(tensor @ direction, direction) if "embed_tokens" in key else None

    audit = audit_weights(str(tmp_path / "base"), edited(ablate))
    assert audit.verdict == "a direction was removed"
    assert audit.direction.agreement > 0.99
    assert audit.direction.share == pytest.approx(share, abs=0.05)
    assert abs(float(torch.tensor(audit.direction.vector, dtype=torch.float64) @ direction)) > 0.99
    assert len(audit.direction.tensors) == 5


def test_changes_of_rank_one_that_remove_nothing_are_another_edit(checkpoint, edited, tmp_path):
    checkpoint()
    generator = torch.Generator().manual_seed(0)

    def change(key, tensor):
        if not key.endswith(("o_proj.weight", "down_proj.weight")):
            return None
        left, right = (torch.randn(size, generator=generator, dtype=torch.float64) for size in tensor.shape)
        return tensor + 0.01 * torch.outer(left, right)

    audit = audit_weights(str(tmp_path / "base"), edited(change))
    assert (audit.verdict, audit.direction) == ("not a neuron scaling", None)


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_a_fine_tune_is_not_a_neuron_scaling_also_where_rounding_swallows_most_of_it(
    size, checkpoint, edited, tmp_path
):
    checkpoint(dtype="bfloat16")
    generator = torch.Generator().manual_seed(0)

    def tune(key, tensor):
        return tensor + size * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    audit = audit_weights(str(tmp_path / "base"), edited(tune))
    assert (audit.verdict, audit.neurons) == ("not a neuron scaling", ())
    with pytest.raises(CircuitError, match="no circuit in this edit"):
        audit.circuit()


def test_a_trained_lora_is_not_a_neuron_scaling(checkpoint, tmp_path):
    subject = checkpoint()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, target_modules=["down_proj", "q_proj"], init_lora_weights=False)
        peft.get_peft_model(subject.model, config).save_pretrained(str(tmp_path / "adapter"))
    audit = audit_weights(str(tmp_path / "base"), str(tmp_path / "adapter"))
    assert audit.verdict == "not a neuron scaling"
    assert audit.tensors == {"changed": 4}


def test_identical_is_identical_over_shards_cut_elsewhere(checkpoint, tmp_path):
    checkpoint()
    shutil.copytree(tmp_path / "base", tmp_path / "one")
    tensors = {}
    for file in sorted((tmp_path / "one").glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    (tmp_path / "one" / "model.safetensors.index.json").unlink()
    save_file(tensors, tmp_path / "one" / "model.safetensors", {"format": "pt"})
    audit = audit_weights(str(tmp_path / "base"), str(tmp_path / "one"))
    assert (audit.verdict, audit.changed) == ("identical", ())
    assert audit.tensors == {"equal": len(tensors)}


def test_no_more_than_a_piece_is_in_memory(checkpoint, edited, tmp_path, monkeypatch):
    from neurodial.edits.stored import StoredTensor

    checkpoint()
    candidate = edited(lambda key, tensor: scale_row(key, tensor, "up_proj", 4, 0.5))
    monkeypatch.setattr(tensor_pairs, "FIRST", 100)
    monkeypatch.setattr(tensor_pairs, "PIECE", 640)
    monkeypatch.setattr(tensor_pairs, "READ", 1000)
    sizes = []
    real = StoredTensor.content

    def watched(self, start, stop):
        sizes.append(len(real(self, start, stop)))
        return real(self, start, stop)

    monkeypatch.setattr(StoredTensor, "content", watched)
    assert [row.index for row in audit_weights(str(tmp_path / "base"), candidate).neurons] == [4]
    assert 0 < max(sizes) <= 2560


# ------------------------------------------------------------------------------------------- what is refused


def test_what_is_no_checkpoint_is_refused(checkpoint, tmp_path):
    checkpoint()
    base = str(tmp_path / "base")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is not a checkpoint"):
        audit_weights(base, str(tmp_path / "empty"))
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="save_pretrained"):
        audit_weights(base, str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="There is no model"):
        audit_weights(base, str(tmp_path / "nowhere" / "deep"))
    (tmp_path / "x.gguf").write_bytes(b"not one")
    with pytest.raises(ModelError, match="not a GGUF file"):
        audit_weights(base, str(tmp_path / "x.gguf"))
    (tmp_path / "base" / "config.json").unlink()
    with pytest.raises(ModelError, match="no configuration"):
        audit_weights(base, base)


def test_other_models_shapes_and_missing_tensors_are_refused(checkpoint, tmp_path):
    checkpoint()
    base = str(tmp_path / "base")
    for name, family, config, problem in (
        ("qwen", "qwen2", {}, "is qwen2 of 2 layers"),
        ("deep", "llama", {"num_hidden_layers": 3}, "3 layers"),
        ("wide", "llama", {"intermediate_size": 128}, "is 64 x 96|is 96 x 64"),
    ):
        from tests.edits.conftest import SIZES

        tiny_model(family, **{**SIZES, **config}).save_pretrained(tmp_path / name)
        with pytest.raises(ModelMismatchError, match=problem):
            audit_weights(base, str(tmp_path / name))
    shutil.copytree(tmp_path / "base", tmp_path / "part")
    index = json.loads((tmp_path / "part" / "model.safetensors.index.json").read_text())
    gone = min(index["weight_map"].values())
    (tmp_path / "part" / gone).unlink()
    with pytest.raises(ModelError, match="lacks"):
        audit_weights(base, str(tmp_path / "part"))
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != gone}
    (tmp_path / "part" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks \d+ of the"):
        audit_weights(base, str(tmp_path / "part"))


def test_an_adapter_of_another_base_is_refused(checkpoint, tmp_path):
    subject = checkpoint()
    export_circuit(subject, Scale(dosed(subject, DOSES)), route="lora", output=tmp_path / "out")
    tiny_model("llama").save_pretrained(tmp_path / "small")
    with pytest.raises(ModelMismatchError, match="made for a"):
        audit_weights(str(tmp_path / "small"), str(tmp_path / "out"))
    with pytest.raises(ModelError, match="is an adapter"):
        audit_weights(str(tmp_path / "out"), str(tmp_path / "base"))


def test_types_whose_rounding_has_no_bound_are_said_to_be_unclear(checkpoint, tmp_path):
    checkpoint(hidden_size=256, intermediate_size=256)
    base = to_gguf(tmp_path / "base", tmp_path / "base.gguf", "F16")
    shutil.copyfile(base, tmp_path / "out.gguf")
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    writer.add_block_count(2)
    kind = gguf.GGMLQuantizationType.Q6_K
    for tensor in gguf.GGUFReader(base).tensors:
        if tensor.name == "blk.0.ffn_down.weight":
            data = np.random.default_rng(0).integers(0, 100, (256, 210), dtype=np.uint8)
            writer.add_tensor(tensor.name, data, raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    audit = audit_weights(base, str(tmp_path / "k.gguf"))
    assert audit.verdict == "unclear"
    assert any("no bound" in note for note in audit.notes)


# ------------------------------------------------------------------------------------------- the command


def run(*arguments, command="audit-weights"):
    with pytest.raises(SystemExit) as done:
        main([command, *map(str, arguments)])
    return done.value.code or 0


def test_the_command_shows_writes_and_ends_with_what_was_found(checkpoint, edited, tmp_path, capsys):
    subject = checkpoint()
    export_circuit(subject, Scale(dosed(subject, DOSES)), route="weights", output=tmp_path / "out")
    base, found = tmp_path / "base", tmp_path / "found.circuit.json"
    assert run(base, base) == 0
    assert "identical" in capsys.readouterr().out
    assert run(base, tmp_path / "out", "-o", found, "--top", 2) == 3
    shown = capsys.readouterr().out
    assert "6 neurons in 2 layers" in shown
    assert "and 4 more" in shown
    assert run(base, tmp_path / "out", "--json") == 3
    value = json.loads(capsys.readouterr().out)
    assert len(value["neurons"]) == 6
    assert run(base, tmp_path / "out", "-o", found) == 1
    assert "exists" in capsys.readouterr().err
    other = edited(lambda key, tensor: tensor * 1.01)
    assert run(base, other, "--top", -1) == 1
    assert run(base, other) in {3, 5}
    assert run(base, "hello", "--circuit", found, "--max-new-tokens", 2, command="steer") == 0
