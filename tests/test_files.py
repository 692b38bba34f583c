"""Writing files: all of it or nothing, and never over another one unasked."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.errors import FileError
from neurodial.files import refuse_existing, write_atomic


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------- what is written


@given(text=st.text())
def test_text_is_written_as_utf8_without_changes(tmp_path_factory, text):
    path = write_atomic(tmp_path_factory.mktemp("files") / "a.txt", text)
    assert path.read_bytes() == text.encode()


@given(data=st.binary())
def test_bytes_are_written_as_they_are(tmp_path_factory, data):
    path = write_atomic(tmp_path_factory.mktemp("files") / "a.bin", data)
    assert path.read_bytes() == data


def test_the_path_comes_back_and_nothing_else_lies_beside_it(tmp_path):
    target = tmp_path / "a.txt"
    assert write_atomic(str(target), "hello") == target
    assert names(tmp_path) == ["a.txt"]


def test_missing_folders_are_made(tmp_path):
    assert write_atomic(tmp_path / "new" / "deep" / "a.txt", "hello").read_text() == "hello"


def test_the_file_is_as_readable_as_any_other(tmp_path):
    """A temporary file's own mode would keep colleagues and servers out."""
    ordinary = tmp_path / "ordinary.txt"
    ordinary.write_text("")
    written = write_atomic(tmp_path / "a.txt", "hello")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_a_long_name_can_be_written(tmp_path):
    name = "n" * 250 + ".txt"
    assert len(name) <= os.pathconf(tmp_path, "PC_NAME_MAX")
    assert write_atomic(tmp_path / name, "hello").read_text() == "hello"


# ------------------------------------------------------------------------------------------- what is refused


def test_a_file_that_exists_is_refused_and_left_alone(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    for attempt in (lambda: refuse_existing(target), lambda: write_atomic(target, "new")):
        with pytest.raises(FileError, match=r"exists already.*--force"):
            attempt()
    assert target.read_text() == "old"


def test_a_file_that_exists_is_overwritten_when_asked(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old and longer")
    assert refuse_existing(target, overwrite=True) == target
    assert target.read_text() == "old and longer", "a check must not write"
    write_atomic(target, "new", overwrite=True)
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_refused(tmp_path, overwrite):
    with pytest.raises(FileError, match="is a folder"):
        refuse_existing(tmp_path, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_really_a_file_is_refused(tmp_path, overwrite):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="can't be made"):
        refuse_existing(tmp_path / "file" / "a.txt", overwrite=overwrite)


def test_a_name_that_the_system_does_not_take_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"(?i)name too long"):
        refuse_existing(tmp_path / ("n" * 300))


def test_a_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.W_OK))
    with pytest.raises(FileError, match="can't be written"):
        refuse_existing(tmp_path / "a.txt")


# ------------------------------------------------------------------------------------------- what goes wrong


def full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """A file that takes some bytes before the disk is full."""

    def __init__(self, stream):
        self._stream = stream

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stream.close()

    def write(self, data):
        self._stream.write(data[: len(data) // 2])
        full_disk()


@pytest.fixture(params=["fsync", "write", "temporary file", "rename"])
def disk_without_space(request, monkeypatch):
    """A disk that turns out to be full at each step of writing."""
    if request.param == "fsync":
        monkeypatch.setattr(os, "fsync", full_disk)
    elif request.param == "write":
        really_open = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *args, **kwargs: FullDisk(really_open(*args, **kwargs)))
    elif request.param == "temporary file":
        monkeypatch.setattr("tempfile.mkstemp", full_disk)
    else:
        monkeypatch.setattr(Path, "replace", full_disk)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, disk_without_space):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileError, match=r"No space left.*free some space"):
        write_atomic(target, "new", overwrite=True)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_no_half_file_where_there_was_none(tmp_path, disk_without_space):
    with pytest.raises(FileError, match="No space left"):
        write_atomic(tmp_path / "a.txt", "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, interruption):
    def interrupt(descriptor):
        raise interruption

    target = tmp_path / "a.txt"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(interruption):
        write_atomic(target, "new", overwrite=True)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_data_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    """Renamed first, a power cut could leave an empty file where the old one was."""
    steps = []
    really_sync, really_replace = os.fsync, Path.replace

    def sync(descriptor):
        steps.append("sync")
        really_sync(descriptor)

    def replace(path, target):
        steps.append("replace")
        return really_replace(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomic(tmp_path / "a.txt", "hello")
    assert steps == ["sync", "replace"]
