"""`neurodial export`, `verify` and `convert`: what they print, what they write, and what bad input gets."""

import json

import pytest
from tests.export.circuits import dosed

from neurodial.cli.main import app, main
from neurodial.export.manifest import read_manifest
from neurodial.model.load import load
from neurodial.model.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model in a local folder."""
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def circuit(folder, tmp_path_factory):
    """A circuit of that model, in a file."""
    return dosed(load(folder)).write(tmp_path_factory.mktemp("circuit") / "some.circuit.json")


def run(capsys, *arguments: object):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


def fail(capsys, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    return int(stopped.value.code or 0), capsys.readouterr().err


def test_export_says_ranks_engines_strength_and_checks(folder, circuit, tmp_path, capsys):
    out = run(capsys, "export", folder, circuit, "--dial", "0.5", "-o", tmp_path / "out")
    assert "0: 3, 1: 1 (rank 3)" in out
    assert "strength 1 is dial 0.5" in out
    assert "--max-lora-rank 8" in out
    assert "the files do what the hook does" in out
    assert read_manifest(tmp_path / "out").strength == 0.5


def test_verify_repeats_the_checks(folder, circuit, tmp_path, capsys):
    run(capsys, "export", folder, circuit, "--as", "ia3", "-o", tmp_path / "out")
    assert "the files do what the hook does" in run(capsys, "verify", tmp_path / "out")
    checks = json.loads(run(capsys, "verify", tmp_path / "out", "--model", folder, "--json"))
    assert [one["agrees"] for one in checks] == [True]


def test_verify_on_another_model_fails(folder, circuit, tmp_path, capsys):
    run(capsys, "export", folder, circuit, "-o", tmp_path / "out")
    tiny_model(seed=1).save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    code, error = fail(capsys, "verify", tmp_path / "out", "--model", tmp_path / "other")
    assert code == 1
    assert "weights (digest" in error


def test_verify_with_options_for_a_model_it_was_not_given(circuit, folder, tmp_path, capsys):
    run(capsys, "export", folder, circuit, "-o", tmp_path / "out")
    code, error = fail(capsys, "verify", tmp_path / "out", "--dtype", "float32")
    assert code == 1
    assert "--model" in error


def test_json_is_the_manifest_with_the_checks(folder, circuit, tmp_path, capsys):
    value = json.loads(run(capsys, "export", folder, circuit, "--as", "weights", "-o", tmp_path / "out", "--json"))
    assert (value["route"], value["checks"][0]["agrees"]) == ("weights", True)


def test_several_circuits_keep_their_names_and_dials(folder, circuit, tmp_path, capsys):
    run(capsys, "export", folder, f"{circuit}@0.5", "-c", f"more={circuit}@-2", "-o", tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert [(part.name, part.dial) for part in manifest.circuits] == [("dosed", 0.5), ("more", -2.0)]
    assert manifest.name == "dosed+more"


def test_the_folder_is_named_after_circuit_and_route(folder, circuit, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(capsys, "export", folder, circuit, "--as", "vllm")
    assert (tmp_path / "dosed-vllm" / "verification.json").is_file()


def test_an_existing_folder_is_refused_before_the_model_is_loaded(circuit, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    code, error = fail(capsys, "export", "no-such-model", circuit, "-o", tmp_path / "out", "--force")
    assert (code, "not made by neurodial" in error) == (1, True)


def test_no_circuit_and_a_wrong_dial_are_refused(folder, circuit, tmp_path, capsys):
    assert "No circuit came" in fail(capsys, "export", folder)[1]
    assert "unsteered model" in fail(capsys, "export", folder, circuit, "--dial", "0", "-o", tmp_path / "out")[1]
    assert "-100 to 100" in fail(capsys, "export", folder, circuit, "--dial", "1e9", "-o", tmp_path / "out")[1]
    assert "-100 to 100" in fail(capsys, "export", folder, circuit, "--dial", "nan", "-o", tmp_path / "out")[1]
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------- the Hub


class FakeHub:
    """Records what would go to the Hub."""

    def __init__(self):
        self.calls = []

    def create_repo(self, repository, *, private, exist_ok):
        self.calls.append(("create", repository, private))
        return f"https://hub.invalid/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        names = sorted(path.name for path in folder_path.iterdir())
        self.calls.append(("upload", repo_id, names, commit_message))


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: fake)
    return fake


@pytest.mark.parametrize(("flags", "private"), [((), True), (("--public",), False)])
def test_push_uploads_the_proven_folder(flags, private, folder, circuit, tmp_path, capsys, hub):
    run(capsys, "export", folder, circuit, "-o", tmp_path / "out", "--push", "someone/dosed", *flags)
    (create, upload) = hub.calls
    assert create == ("create", "someone/dosed", private)
    assert upload[1] == "someone/dosed"
    assert {"README.md", "verification.json", "neurodial.json", "adapter_model.safetensors"} <= set(upload[2])


def test_a_bad_repository_name_is_refused_before_any_work(circuit, tmp_path, capsys, hub):
    for name in ("dosed", "a/b/c", "some one/x", "../x"):
        code, error = fail(capsys, "export", "no-such-model", circuit, "-o", tmp_path / "out", "--push", name)
        assert (code, "user/name" in error) == (1, True)
    assert hub.calls == []


def test_what_the_hub_refuses_stays_on_disk(folder, circuit, tmp_path, capsys, hub, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("the network is away")

    monkeypatch.setattr(FakeHub, "create_repo", offline)
    code, error = fail(capsys, "export", folder, circuit, "-o", tmp_path / "out", "--push", "someone/dosed")
    assert (code, "the network is away" in error, "stays in" in error) == (1, True, True)
    assert read_manifest(tmp_path / "out").route == "lora"


def test_a_folder_without_a_passed_check_is_not_pushed(folder, circuit, tmp_path, capsys, hub):
    from neurodial.errors import ExportError
    from neurodial.export.push import push

    run(capsys, "export", folder, circuit, "-o", tmp_path / "out")
    (tmp_path / "out" / "verification.json").write_text('{"comparisons": [{"agrees": false}]}')
    with pytest.raises(ExportError, match="no equivalence check"):
        push(tmp_path / "out", "someone/dosed")
    assert hub.calls == []


# ------------------------------------------------------------------------------------------- convert


def test_convert_makes_a_circuit_of_a_table_and_a_table_of_a_circuit(folder, circuit, tmp_path, capsys):
    run(capsys, "convert", circuit, tmp_path / "table.csv")
    run(capsys, "convert", tmp_path / "table.csv", tmp_path / "again.circuit.json", "--model", folder)
    from neurodial.circuit.file import read_circuit

    again, first = read_circuit(tmp_path / "again.circuit.json"), read_circuit(circuit)
    assert again.rows == first.rows
    assert again.origin.model.digest == first.origin.model.digest
    run(capsys, "convert", tmp_path / "table.csv", tmp_path / "loose.circuit.json")
    assert read_circuit(tmp_path / "loose.circuit.json").origin.model is None


def test_convert_refuses_neurons_that_the_model_lacks(folder, tmp_path, capsys):
    (tmp_path / "x.csv").write_text("layer,index\n7,1\n")
    code, error = fail(capsys, "convert", tmp_path / "x.csv", tmp_path / "x.circuit.json", "--model", folder)
    assert (code, "no neuron (layer 7" in error) == (1, True)
    assert not (tmp_path / "x.circuit.json").exists()


def test_convert_turns_vectors_from_one_format_into_the_other(tmp_path, capsys):
    import torch

    from neurodial.export.vector_file import read_vectors, write_vectors
    from neurodial.intervention.vector import AddVector

    write_vectors(AddVector(torch.arange(4.0), 2), tmp_path / "a.gguf")
    run(capsys, "convert", tmp_path / "a.gguf", tmp_path / "a.safetensors")
    assert torch.equal(read_vectors(tmp_path / "a.safetensors")[0].vector, torch.arange(4.0))


def test_convert_refuses_what_it_does_not_know(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("")
    assert "Nothing turns" in fail(capsys, "convert", tmp_path / "a.txt", tmp_path / "b.csv")[1]
