"""The list of export formats: a new record is offered, written, checked and described everywhere without more code."""

import dataclasses
import importlib

import pytest
from cyclopts import App
from tests.export.circuits import dosed
from tests.subjects import shared

from neurodial.cli import export_command
from neurodial.errors import ExportError, UnknownNameError
from neurodial.export import formats
from neurodial.export.engines import EngineNote
from neurodial.export.export_circuit import export_circuit, verify_export
from neurodial.export.formats import export_format, format_names
from neurodial.export.manifest import MANIFEST, read_manifest
from neurodial.intervention.scale import Scale


@pytest.fixture
def toy(monkeypatch):
    """A format of a made-up engine: the PEFT adapter, and a note beside it."""

    def write(subject, recipe, folder):
        (folder / "toy.txt").write_text(f"{recipe.rank} neurons at most\n", encoding="utf-8")
        return lora.write(subject, recipe, folder)

    lora = export_format("lora")
    toy = dataclasses.replace(
        lora,
        name="toy",
        title="Toy bundle",
        content="An adapter for the toy engine",
        loaded_by="The toy engine",
        detail="For tests alone.",
        hub_library="toys",
        write=write,
        engines=lambda names, rank, has_adapter: [EngineNote("toy engine", True, f"--family {names.gguf}")],
        usage=lambda manifest: f"`toy run {manifest.name}`",
    )
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, toy))
    return toy


@pytest.fixture
def command(toy):
    """The command as a process sees it that knows the toy from its start."""
    yield importlib.reload(export_command).export
    formats.FORMATS = tuple(form for form in formats.FORMATS if form.name != "toy")
    importlib.reload(export_command)


def test_a_new_format_is_in_the_commands_help(command, capsys):
    app = App(name="neurodial", result_action="return_value")
    app.command(command, name="export")
    app(["export", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "toy: The toy engine. Its strength is the dial. For tests alone." in said
    assert "gguf-merged, toy]" in said


def test_a_new_format_is_listed_and_taken_by_the_studio(toy):
    from neurodial.studio.endpoints import export_formats_view
    from neurodial.studio.requests import ExportRequest, Turned

    listed = {form["name"]: form for form in export_formats_view()}
    assert listed["toy"] == {"name": "toy", "title": "Toy bundle", "summary": toy.summary}
    assert ExportRequest(circuits=[Turned(id="polite")], route="toy").route == "toy"


def test_a_new_format_is_written_checked_and_described(toy, tmp_path):
    subject = shared("llama")
    done = export_circuit(subject, Scale(dosed(subject)), route="toy", output=tmp_path / "out")
    assert (tmp_path / "out" / "toy.txt").read_text() == "3 neurons at most\n"
    assert [check.strength for check in verify_export(tmp_path / "out", subject=subject)] == [1.0, 0.5, -1.0]
    assert done.manifest.engines == [{"engine": "toy engine", "can": True, "how": "--family llama"}]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "An adapter for the toy engine. Its strength is the dial." in card
    assert "library_name: toys" in card
    assert "`toy run dosed`" in card
    assert "- toy\n" in card


def test_without_its_record_a_format_is_unknown_everywhere(toy, tmp_path, monkeypatch):
    from pydantic import ValidationError

    from neurodial.studio.requests import ExportRequest, Turned

    subject = shared("llama")
    export_circuit(subject, Scale(dosed(subject)), route="toy", output=tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(UnknownNameError, match="no export format 'toy'"):
        export_circuit(subject, Scale(dosed(subject)), route="toy", output=tmp_path / "again")
    with pytest.raises(ExportError, match=rf"{MANIFEST} is damaged: route: .*no export format 'toy'.*gguf-merged"):
        read_manifest(tmp_path / "out")
    with pytest.raises(ValidationError, match="one of lora, vllm"):
        ExportRequest(circuits=[Turned(id="polite")], route="toy")


def test_a_name_stands_for_one_format():
    assert len(set(format_names())) == len(format_names())


@pytest.mark.parametrize("name", format_names())
def test_what_a_format_says_of_its_strength_is_what_it_does(name):
    """A format with a dial is checked at several strengths, and only such a one speaks of its strength."""
    form = export_format(name)
    assert (len(form.strengths) > 1) == form.is_dialled
    assert ("Its strength is the dial" in form.summary) == form.is_dialled
    assert ("fixed at its dial" in form.description) != form.is_dialled
