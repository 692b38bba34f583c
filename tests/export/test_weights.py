"""Baking a checkpoint: shard by shard, every other byte as it was."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.export.circuits import dosed
from tests.records import record_of

from neurodial.errors import ExportError, FileError
from neurodial.export import weights
from neurodial.export.export_circuit import export_circuit
from neurodial.export.recipe import recipe_of
from neurodial.export.tensors import change_tensor, place_of, places_in, read_tensor
from neurodial.intervention.scale import Scale


def tensors_of(folder):
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a dict
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "phi3"])
def test_only_the_columns_of_the_circuit_change(family, checkpoint, tmp_path):
    subject = checkpoint(family)
    circuit = dosed(subject)
    export_circuit(subject, Scale(circuit), route="weights", output=tmp_path / "out")
    before, after = tensors_of(tmp_path / "base"), tensors_of(tmp_path / "out")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 2
    for name in changed:
        layer = int(next(part for part in name.split(".") if part.isdigit()))
        multipliers = torch.ones(24)
        for row in circuit.in_layers([layer]):
            multipliers[row.neuron.index] = 1 - row.dose
        scale = multipliers[:, None] if record_of(subject).transposed else multipliers
        assert torch.equal(after[name], scale * before[name])


def test_shards_index_tokenizer_and_configuration_go_along(checkpoint, tmp_path):
    subject = checkpoint()
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    export_circuit(subject, Scale(dosed(subject)), route="weights", output=tmp_path / "out")
    before = {file.name for file in (tmp_path / "base").iterdir()}
    assert before <= {file.name for file in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "generation_config.json", "model.safetensors.index.json"} <= before


def test_one_tensor_at_a_time_is_read(checkpoint, tmp_path, monkeypatch):
    """Nothing may load a shard: the largest piece that is read is one weight."""
    subject = checkpoint()
    sizes = []

    def watched(place):
        sizes.append(place.size)
        return read_tensor(place)

    monkeypatch.setattr("neurodial.export.tensors.read_tensor", watched)
    (tmp_path / "baked").mkdir()
    weights.write_weights(subject, recipe_of(subject, [Scale(dosed(subject))]), tmp_path / "baked")
    assert sizes == [16 * 24 * 4] * 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_what_it_was_and_agrees_within_its_tolerance(dtype, checkpoint, tmp_path):
    subject = checkpoint(dtype=dtype)
    done = export_circuit(subject, Scale(dosed(subject)), route="weights", output=tmp_path / "out")
    assert done.manifest.precision == dtype
    assert {str(t.dtype) for t in tensors_of(tmp_path / "out").values()} == {f"torch.{dtype}"}


def test_a_checkpoint_in_a_quantised_type_is_refused(tmp_path):
    save_file({"w": torch.ones(2, 2).to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(ExportError, match="F8_E4M3"):
        read_tensor(places_in(tmp_path / "x.safetensors")["w"])


def test_a_result_too_large_for_its_type_is_refused(tmp_path):
    save_file({"w": torch.full((2, 2), 6e4, dtype=torch.float16)}, tmp_path / "x.safetensors")
    with pytest.raises(ExportError, match="does not fit F16"):
        change_tensor(places_in(tmp_path / "x.safetensors")["w"], lambda weight: weight * 2)


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x08\0\0\0\0\0\0\0notjson!", (10**9).to_bytes(8, "little")])
def test_a_file_that_is_not_safetensors_is_refused(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match="not a safetensors file"):
        places_in(tmp_path / "x.safetensors")


def test_a_cut_off_shard_is_refused(checkpoint, tmp_path):
    checkpoint()
    shard = min((tmp_path / "base").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ExportError, match="cut off"):
        places_in(shard)


def test_a_missing_shard_is_refused(checkpoint, tmp_path):
    checkpoint()
    min((tmp_path / "base").glob("*.safetensors")).unlink()
    with pytest.raises(ExportError, match="lacks model-00001"):
        weights.shards_of(tmp_path / "base")


def test_an_index_that_leads_out_of_the_folder_is_refused(checkpoint, tmp_path):
    checkpoint()
    (tmp_path / "secret.safetensors").write_bytes(b"")
    index = tmp_path / "base" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../secret.safetensors"}}))
    with pytest.raises(ExportError, match="leads out of it"):
        weights.shards_of(tmp_path / "base")


def test_a_full_disk_is_told_before_work_begins(checkpoint, tmp_path, monkeypatch):
    subject = checkpoint()
    monkeypatch.setattr("neurodial.files.shutil.disk_usage", lambda folder: type("U", (), {"free": 10})())
    with pytest.raises(FileError, match="GB left"):
        export_circuit(subject, Scale(dosed(subject)), route="weights", output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_names_with_another_prefix_are_found_and_ambiguous_ones_refused(checkpoint):
    subject = checkpoint("gpt2")
    folder = weights.checkpoint_of(subject)
    assert folder is not None
    shards = weights.shards_of(folder)
    places = {name.removeprefix("transformer."): p for shard in shards for name, p in places_in(shard).items()}
    core = "0.mlp.c_proj.weight"
    assert place_of(places, "transformer.h.0.mlp.c_proj.weight", core) is places["h.0.mlp.c_proj.weight"]
    twice = {**places, "vision.h.0.mlp.c_proj.weight": places["h.0.mlp.c_proj.weight"]}
    assert place_of(twice, "h.0.mlp.c_proj.weight", core) is places["h.0.mlp.c_proj.weight"]
    with pytest.raises(ExportError, match="no single tensor"):
        place_of(twice, "model.h.0.mlp.c_proj.weight", core)
