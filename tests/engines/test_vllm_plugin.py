"""The plugin for vLLM, as far as it goes without vLLM: names, dials, folders. tests/engines runs it in the real one."""

import json
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.export.circuits import dosed
from tests.subjects import shared

from neurodial.engines import vllm_plugin
from neurodial.engines.vllm_exports import read_export, read_exports, read_limit, split
from neurodial.engines.vllm_plugin import cache_folder, folder_at
from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    subject = shared("llama")
    folder = tmp_path_factory.mktemp("plugin") / "dosed"
    export_circuit(subject, Scale(dosed(subject), dial=0.5), route="vllm", output=folder)
    return folder


@pytest.fixture
def copy(export, tmp_path):
    import shutil

    return shutil.copytree(export, tmp_path / "copy")


@pytest.fixture(scope="module")
def exports(export):
    return read_exports(str(export))


# ------------------------------------------------------------------------------------------- names and dials


@pytest.mark.parametrize(
    ("text", "dial"),
    [("dosed", 0.5), ("dosed@1", 1), ("dosed@0.5", 0.5), ("dosed@-1", -1), ("dosed@+2", 2), ("dosed@.25", 0.25),
     ("dosed@0", 0), ("dosed@-0", 0), ("dosed@8", 8), ("dosed@-8.000", -8)],
)  # fmt: skip
def test_a_name_is_an_export_at_a_dial(exports, text, dial):
    served, found = split(text, exports, 8.0)
    assert (served.name, found) == ("dosed", dial)
    assert str(found) == str(float(dial))  # no negative zero


@pytest.mark.parametrize("text", ["other", "other@1", "", "@1", "Dosed", "dosed ", "../dosed", "dosed/..", "demo"])
def test_a_name_that_is_nobodys_is_left_to_others(exports, text):
    assert split(text, exports, 8.0) is None


NOT_DIALS = [
    "", "nan", "inf", "-inf", "1e3", "0x1", "1_0", " 1", "1 ", "1\n", "--1", "1.", "٣", "0.0001", "1@2", "../..", "1/2",
]  # fmt: skip


@pytest.mark.parametrize("dial", NOT_DIALS)
def test_a_dial_that_is_none_is_refused(exports, dial):
    with pytest.raises(ValueError, match="not a number"):
        split(f"dosed@{dial}", exports, 8.0)


def test_a_dial_out_of_range_is_refused_with_the_range(exports):
    for text in ("dosed@8.001", "dosed@-9", "dosed@9999"):
        with pytest.raises(ValueError, match="out of range: from -8 to 8"):
            split(text, exports, 8.0)
    assert split("dosed@9", exports, 10.0)[1] == 9


@pytest.mark.parametrize(("text", "limit"), [("", 8), ("2.5", 2.5), ("1000", 1000)])
def test_the_limit_is_a_setting(text, limit):
    assert read_limit(text) == limit


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1001", "many"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="NEURODIAL_VLLM_LIMIT"):
        read_limit(text)


# ------------------------------------------------------------------------------------------- exports


def test_an_export_is_read_with_its_own_dial_and_under_another_name(export):
    served = read_exports(f"{export}:short={export}")
    assert {name: (one.dial, one.rank) for name, one in served.items()} == {"dosed": (0.5, 3), "short": (0.5, 3)}


def test_two_exports_of_one_name_are_refused(export):
    with pytest.raises(ValueError, match="two exports are called 'dosed'"):
        read_exports(f"{export}:{export}")


@pytest.mark.parametrize("name", ["a@b", "a b", "../x", ".hidden", "é", "x" * 101])
def test_a_name_that_cannot_be_asked_for_is_refused(export, name):
    with pytest.raises(ValueError, match=r"can't be asked for by name"):
        read_exports(f"{name}={export}")


def test_a_folder_that_is_no_export_for_vllm_is_refused(export, tmp_path):
    with pytest.raises(ValueError, match="can't be served"):
        read_export(tmp_path)
    subject = shared("llama")
    export_circuit(subject, Scale(dosed(subject)), route="lora", output=tmp_path / "lora")
    with pytest.raises(ValueError, match="route 'lora'"):
        read_export(tmp_path / "lora")


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_export_that_changed_is_refused(copy, file):
    (copy / file).write_bytes((copy / file).read_bytes().replace(b"base", b"Base") + b" ")
    with pytest.raises(ValueError, match=f"{file} changed since the export"):
        read_export(copy)


def test_a_damaged_manifest_is_refused(copy):
    for text in ("", "[]", "{}", '{"format": "neurodial.export", "version": 2, "route": "vllm"}'):
        (copy / "neurodial.json").write_text(text)
        with pytest.raises(ValueError, match="can't be served"):
            read_export(copy)


# ------------------------------------------------------------------------------------------- folders


def test_each_dial_gets_a_folder_whose_alpha_is_the_dial_times_the_rank(exports, tmp_path):
    served = exports["dosed"]
    found = {dial: folder_at(served, dial, tmp_path) for dial in (1.0, 0.5, -1.0, 0.0)}
    assert len(set(found.values())) == 4
    for dial, folder in found.items():
        config = json.loads((folder / "adapter_config.json").read_text())
        original = json.loads((served.folder / "adapter_config.json").read_text())
        assert config == {**original, "lora_alpha": 3 * dial}
        weights = "adapter_model.safetensors"
        assert (folder / weights).read_bytes() == (served.folder / weights).read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name.startswith(".")) == []


def test_a_folder_is_written_once_and_again_where_it_is_torn(exports, tmp_path):
    folder = folder_at(exports["dosed"], 0.5, tmp_path)
    before = (folder / "adapter_config.json").stat().st_mtime_ns
    assert folder_at(exports["dosed"], 0.5, tmp_path) == folder
    assert (folder / "adapter_config.json").stat().st_mtime_ns == before
    (folder / "adapter_model.safetensors").unlink()
    assert folder_at(exports["dosed"], 0.5, tmp_path) == folder
    assert (folder / "adapter_model.safetensors").is_file()


def test_many_requests_at_once_make_one_whole_folder(exports, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: folder_at(exports["dosed"], 0.5, tmp_path), range(32)))
    (folder,) = found
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["+0.500"]


def test_another_process_that_was_first_is_left_alone(exports, tmp_path, monkeypatch):
    """Between our look and our rename the other's folder appears; a server may be reading it."""
    link, made = vllm_plugin._link, []

    def late(source, target):
        link(source, target)
        if not made:
            made.append(None)
            made.append(folder_at(exports["dosed"], 0.5, tmp_path).stat().st_ino)

    monkeypatch.setattr(vllm_plugin, "_link", late)
    folder = folder_at(exports["dosed"], 0.5, tmp_path)
    assert folder.stat().st_ino == made[1]
    assert [path.name for path in folder.parent.iterdir()] == ["+0.500"]


def test_an_export_made_anew_gets_other_folders(copy, tmp_path):
    """The prefix cache of a running server knows an adapter by its path."""
    first = folder_at(read_export(copy), 0.5, tmp_path / "cache")
    subject = shared("llama")
    export_circuit(subject, Scale(dosed(subject, {(0, 1): 1.0})), route="vllm", output=copy, overwrite=True)
    assert folder_at(read_export(copy, "dosed"), 0.5, tmp_path / "cache") != first


def test_across_file_systems_the_matrices_are_linked_by_name(exports, tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(vllm_plugin.os, "link", refuse)
    folder = folder_at(exports["dosed"], 0.5, tmp_path)
    assert (folder / "adapter_model.safetensors").is_symlink()
    assert (folder / "adapter_model.safetensors").is_file()


def test_the_cache_is_where_the_environment_says():
    assert cache_folder({"NEURODIAL_VLLM_CACHE": "/shared"}) == Path("/shared")
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/neurodial/vllm")
    assert cache_folder({}) == Path.home() / ".cache" / "neurodial" / "vllm"


# ------------------------------------------------------------------------------------------- as a plugin


def test_it_does_nothing_unless_asked(export, tmp_path):
    """In a process of its own: no third-party module gets loaded, and without vllm a setting is an error."""
    code = "import sys, neurodial.engines.vllm_plugin as p; p.register(); print({'torch', 'gguf'} & set(sys.modules))"
    run = {"capture_output": True, "text": True, "cwd": tmp_path}
    path = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=path, **run)
    assert (done.stdout, done.stderr) == ("set()\n", "")
    assert list(tmp_path.iterdir()) == []
    setting = {**path, "NEURODIAL_VLLM": "nowhere"}
    asked = subprocess.run([sys.executable, "-c", code], check=False, env=setting, **run)
    assert "nowhere can't be served" in asked.stderr


def test_it_stands_beside_vllm_without_our_dependencies():
    """`pip install --no-deps neurodial`: the plugin is there, and other names say what is missing."""
    without = "import sys; sys.modules['lazy_loader'] = None; "
    code = without + "import neurodial.engines.vllm_plugin as p; p.register(); import neurodial; neurodial.load"
    path = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=path, capture_output=True, text=True)
    assert done.stderr.endswith(
        "AttributeError: neurodial.load needs neurodial's dependencies: pip install neurodial\n"
    )


def test_the_entry_point_names_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["vllm.general_plugins"] == {"neurodial": "neurodial.engines.vllm_plugin:register"}
    assert callable(vllm_plugin.register)
