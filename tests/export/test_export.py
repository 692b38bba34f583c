"""The folder: it appears whole and proven, or not at all; and `verify` can tell when it no longer holds."""

import json
from dataclasses import replace

import pytest
import torch
from tests.export.circuits import dosed
from tests.quantised import packed
from tests.subjects import differences, shared, snapshot

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import (
    CircuitError,
    ExportError,
    FileError,
    ModelError,
    ModelMismatchError,
    OptionError,
    UnknownNameError,
    VerificationError,
)
from neurodial.export import formats
from neurodial.export.export_circuit import export_circuit, verify_export
from neurodial.export.manifest import MANIFEST, VERIFICATION, read_manifest, write_manifest
from neurodial.export.recipe import Recipe, recipe_of
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_subject


@pytest.fixture
def exported(tmp_path):
    subject = shared("llama")
    return export_circuit(subject, Scale(dosed(subject), dial=0.5), route="lora", output=tmp_path / "out")


@pytest.fixture
def rewritten(monkeypatch):
    """Makes a format write what another recipe says."""

    def make(name, change):
        honest = formats.export_format(name)
        replace_format(monkeypatch, replace(honest, write=lambda s, r, f: honest.write(s, change(r), f)))

    return make


def replace_format(monkeypatch, form):
    """Another record under the same name."""
    changed = tuple(form if known.name == form.name else known for known in formats.FORMATS)
    monkeypatch.setattr(formats, "FORMATS", changed)


def nothing_left(folder):
    return list(folder.iterdir()) == []


# ------------------------------------------------------------------------------------------- the equivalence check


def test_the_checks_lie_beside_the_files_and_can_be_repeated(exported):
    verification = json.loads((exported.folder / VERIFICATION).read_text())
    assert [one["strength"] for one in verification["comparisons"]] == [1.0, 0.5, -1.0]
    assert all(
        one["agrees"] and one["difference"] < one["tolerance"] < one["effect"] for one in verification["comparisons"]
    )
    (exported.folder / VERIFICATION).unlink()
    again = verify_export(exported.folder, subject=shared("llama"))
    assert [one.difference for one in again] == [one["difference"] for one in verification["comparisons"]]
    assert (exported.folder / VERIFICATION).is_file()


def test_files_that_do_nothing_fail_and_leave_nothing(tmp_path, rewritten):
    rewritten("lora", lambda recipe: Recipe({0: {3: 1e-6}}))
    subject = shared("llama")
    with pytest.raises(VerificationError, match="don't show the circuit"):
        export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    assert nothing_left(tmp_path)


def test_files_that_do_a_hundredth_too_much_fail(tmp_path, rewritten):
    rewritten("weights", lambda recipe: replace(recipe, strength=recipe.strength * 1.01))
    subject = shared("llama")
    with pytest.raises(VerificationError, match=r"at most 0\.001"):
        export_circuit(subject, Scale(dosed(subject)), route="weights", output=tmp_path / "out")


def test_an_effect_below_rounding_is_not_called_proven(tmp_path):
    subject = tiny_subject("llama")
    subject.model.to(torch.bfloat16)
    with pytest.raises(VerificationError, match="too small to tell from rounding"):
        export_circuit(subject, Scale(dosed(subject, {(0, 3): 1e-4})), route="weights", output=tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_adapters_agree_within_their_tolerance(dtype, tmp_path):
    subject = tiny_subject("llama")
    subject.model.to(getattr(torch, dtype))
    for route in ("lora", "ia3"):
        done = export_circuit(subject, Scale(dosed(subject)), route=route, output=tmp_path / route)
        assert done.manifest.precision == dtype


def test_verify_loads_the_model_as_it_was_then(checkpoint, tmp_path):
    subject = checkpoint()
    export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    assert all(one.agrees for one in verify_export(tmp_path / "out"))


def test_verify_loads_the_adapter_too(adapted, tmp_path):
    subject = adapted("llama", ["q_proj", "down_proj"])
    export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    assert all(one.agrees for one in verify_export(tmp_path / "out"))


def test_verify_refuses_another_model(exported):
    with pytest.raises(VerificationError, match="weights"):
        verify_export(exported.folder, subject=tiny_subject("llama", seed=1))


def test_verify_sees_a_changed_file(exported):
    path = exported.folder / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 1.5', '"lora_alpha": 3.0'))
    with pytest.raises(VerificationError, match=r"adapter_config\.json .* changed"):
        verify_export(exported.folder, subject=shared("llama"))


def test_verify_measures_and_does_not_only_compare_hashes(exported):
    path = exported.folder / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 1.5', '"lora_alpha": 3.0'))
    write_manifest(exported.folder, read_manifest(exported.folder))
    with pytest.raises(VerificationError, match="don't show the circuit"):
        verify_export(exported.folder, subject=shared("llama"))


def test_a_manifest_that_names_a_file_outside_is_refused(exported):
    path = exported.folder / MANIFEST
    value = json.loads(path.read_text())
    value["files"]["../../etc/passwd"] = "0" * 64
    path.write_text(json.dumps(value))
    with pytest.raises(ExportError, match="outside"):
        verify_export(exported.folder, subject=shared("llama"))


@pytest.mark.parametrize(
    ("content", "said"), [("", "damaged"), ("[]", "damaged"), ("{}", "format"), ('{"version": 9}', "version 9")]
)
def test_a_damaged_or_later_manifest_is_refused(content, said, exported):
    (exported.folder / MANIFEST).write_text(content)
    with pytest.raises(ExportError, match=said):
        read_manifest(exported.folder)


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(ExportError, match="not an export"):
        verify_export(tmp_path)


def test_the_model_is_given_back_as_it_was(tmp_path):
    subject = tiny_subject("gpt2")
    before = snapshot(subject.model)
    for route in ("lora", "ia3", "weights"):
        export_circuit(subject, Scale(dosed(subject)), route=route, output=tmp_path / route)
        assert differences(before, snapshot(subject.model)) == []


# ------------------------------------------------------------------------------------------- the folder


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    honest = formats.export_format("weights")

    def interrupted(subject, recipe, folder):
        honest.write(subject, recipe, folder)
        raise KeyboardInterrupt

    replace_format(monkeypatch, replace(honest, write=interrupted))
    subject = shared("llama")
    with pytest.raises(KeyboardInterrupt):
        export_circuit(subject, Scale(dosed(subject)), route="weights", output=tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    def full(path, content, *, overwrite=False):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neurodial.export.peft_adapter.write_atomic", full)
    subject = shared("llama")
    with pytest.raises(FileError, match="No space left"):
        export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    assert nothing_left(tmp_path)


def test_an_export_is_replaced_only_when_asked_and_only_by_a_proven_one(exported, rewritten):
    subject = shared("llama")
    scale = Scale(dosed(subject), dial=1.0)
    with pytest.raises(FileError, match="exists already"):
        export_circuit(subject, scale, route="lora", output=exported.folder)
    rewritten("lora", lambda recipe: Recipe({0: {3: 9.0}}))
    with pytest.raises(VerificationError):
        export_circuit(subject, scale, route="lora", output=exported.folder, overwrite=True)
    assert read_manifest(exported.folder).strength == 0.5
    export_circuit(subject, scale, route="ia3", output=exported.folder, overwrite=True)
    assert (read_manifest(exported.folder).route, read_manifest(exported.folder).strength) == ("ia3", 1.0)
    assert [path.name for path in exported.folder.parent.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    subject = shared("llama")
    with pytest.raises(FileError, match="not made by neurodial"):
        export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").is_file()


def test_an_empty_folder_may_be_filled(tmp_path):
    subject = shared("llama")
    (tmp_path / "out").mkdir()
    mode = (tmp_path / "out").stat().st_mode
    export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == mode


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    subject = shared("llama")
    with pytest.raises(FileError, match="is a file"):
        export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")


def test_the_manifest_says_what_was_made(exported):
    manifest = exported.manifest
    assert (manifest.route, manifest.strength, manifest.ranks, manifest.rank) == ("lora", 0.5, {0: 3, 1: 1}, 3)
    assert manifest.max_lora_rank == 8
    assert manifest.base.identity["digest"] == shared("llama").identity.digest
    on_disk = {p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*") if p.is_file()}
    assert set(manifest.files) == on_disk - {MANIFEST}
    assert Circuit.read(exported.folder / manifest.circuits[0].file) == dosed(shared("llama"))


def test_the_card_says_what_it_is_and_how_it_was_measured(exported):
    card = (exported.folder / "README.md").read_text()
    head, body = card.removeprefix("---\n").split("\n---\n")
    front = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    assert front["base_model"] == '"tiny-llama"'
    assert front["library_name"] == "peft"
    assert "dial 0.5" in body
    assert f"{exported.checks[0].difference:.2g}" in body
    assert "base model's licence" in body
    assert "max-lora-rank 8" in body


def test_the_card_carries_the_base_models_licence(checkpoint, tmp_path):
    subject = checkpoint()
    (tmp_path / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'license: "apache-2.0"' in card
    assert "licence (apache-2.0) applies" in card


# ------------------------------------------------------------------------------------------- bad input


def test_a_dial_of_zero_is_refused(tmp_path):
    subject = shared("llama")
    with pytest.raises(OptionError, match="unsteered model"):
        export_circuit(subject, Scale(dosed(subject), dial=0.0), route="lora", output=tmp_path / "out")


def test_a_list_of_dials_is_refused():
    subject = shared("llama")
    with pytest.raises(OptionError, match="list of dials"):
        recipe_of(subject, [Scale(dosed(subject), dial=[0.5, 1.0])])


def test_a_circuit_for_some_tokens_only_is_refused():
    subject = shared("llama")
    with pytest.raises(ExportError, match="generated tokens only"):
        recipe_of(subject, [Scale(dosed(subject), when="generated")])


def test_circuits_that_cancel_and_no_circuits_are_refused():
    subject = shared("llama")
    scales = [Scale(dosed(subject), dial=1.0), Scale(dosed(subject), dial=-1.0)]
    with pytest.raises(CircuitError, match="zero"):
        recipe_of(subject, scales)
    with pytest.raises(CircuitError, match="No circuit"):
        recipe_of(subject, [])


def test_another_base_model_is_refused_unless_forced(tmp_path):
    circuit = dosed(tiny_subject("llama", seed=1))
    subject = shared("llama")
    with pytest.raises(ModelMismatchError, match="weights"):
        export_circuit(subject, Scale(circuit), route="lora", output=tmp_path / "out")
    export_circuit(subject, Scale(circuit, force=True), route="lora", output=tmp_path / "out")


def test_an_unknown_route_is_refused(tmp_path):
    subject = shared("llama")
    with pytest.raises(UnknownNameError, match="Did you mean lora"):
        export_circuit(subject, Scale(dosed(subject)), route="loras", output=tmp_path / "out")


@pytest.fixture(scope="module")
def wide():
    return tiny_subject("llama", intermediate_size=600)


def test_a_circuit_too_wide_for_vllm_is_refused_there_and_said_elsewhere(wide, tmp_path):
    rows = [Row(Neuron(0, None, index), 1.0, 1.0) for index in range(513)]
    circuit = Circuit.of(rows, origin=Origin(model=wide.identity))
    with pytest.raises(ExportError, match="rank 513 is above 512"):
        export_circuit(wide, Scale(circuit), route="vllm", output=tmp_path / "out")
    done = export_circuit(wide, Scale(circuit), route="lora", output=tmp_path / "out")
    assert [note["can"] for note in done.manifest.engines if note["engine"] == "vLLM"] == [False]
    assert done.manifest.max_lora_rank is None


def test_a_family_that_vllm_runs_no_lora_on_is_refused(tmp_path):
    subject = shared("gpt2")
    with pytest.raises(ExportError, match="no LoRA on gpt2"):
        export_circuit(subject, Scale(dosed(subject)), route="vllm", output=tmp_path / "out")


class Int8(torch.nn.Module):
    """A quantised linear map, as many packages have them: integers, scales and a forward pass."""

    def __init__(self, linear, *, broken=False):
        super().__init__()
        self.in_features, self.out_features, self.broken = linear.in_features, linear.out_features, broken
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("bias", torch.linspace(-1, 1, linear.out_features))

    def forward(self, hidden):
        if self.broken:
            raise RuntimeError("only on a GPU")
        return hidden @ (self.weight.float() * self.scale).T + self.bias


@pytest.fixture
def quantised():
    def make(**options):
        subject = tiny_subject("llama")
        for block in subject.blocks:
            block.mlp.down_proj = Int8(block.mlp.down_proj, **options)
        return subject

    return make


def test_columns_of_a_quantised_base_are_the_dequantised_ones(quantised):
    subject = quantised()
    module = subject.down(subject.sites[1])
    wanted = (module.weight.float() * module.scale)[:, [5, 2]]
    assert torch.allclose(subject.down_columns(subject.sites[1], [5, 2]), wanted, atol=1e-6)


def test_columns_that_cannot_be_dequantised_are_an_error(quantised):
    subject = quantised(broken=True)
    with pytest.raises(ModelError, match="only on a GPU"):
        subject.down_columns(subject.sites[0], [1])


def test_a_quantised_model_can_not_be_baked(tmp_path):
    plain = tiny_subject("llama")
    subject = Subject.of(packed(plain.model), plain.tokenizer)
    with pytest.raises(ExportError, match="is quantised"):
        export_circuit(subject, Scale(dosed(subject)), route="weights", output=tmp_path / "out")
    assert nothing_left(tmp_path)
