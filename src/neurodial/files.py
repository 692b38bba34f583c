"""Writing files so that nothing is lost: all of the file or none of it, and never over another one unasked."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neurodial.errors import FileError

_SHOWN = 40  # letters of a file's name in the temporary one's, which may not be longer than the system takes


def refuse_existing(path: Path | str, *, overwrite: bool = False) -> Path:
    """Check, before long work, that `path` can be written.

    Raises:
        FileError: the file exists and `overwrite` is false, or its folder can't be written.
    """
    target = Path(path)
    try:
        is_folder, exists = target.is_dir(), target.exists()
    except OSError as error:  # a name that the file system does not take
        raise FileError(f"{target} can't be written: {error.strerror}.", fix="Choose another name.") from error
    if is_folder:
        raise FileError(f"{target} is a folder.", wanted="the path of a file")
    if exists and not overwrite:
        raise FileError(f"{target} exists already.", fix="Choose another name, or say --force (overwrite=True).")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"The folder {target.parent} can't be made: {error.strerror}.") from error
    if not os.access(target.parent, os.W_OK):
        raise FileError(f"The folder {target.parent} can't be written.", fix="Choose another folder.")
    return target


def refuse_full(folder: Path, size: int) -> None:
    """Check, before long work, that a folder's disk has room for `size` bytes.

    Raises:
        FileError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise FileError(
            f"The disk of {folder.parent} has {free / 1e9:.2f} GB left.",
            wanted=f"{size / 1e9:.2f} GB",
            fix="Free some space or choose another folder.",
        )


def near_files(path: Path) -> str | None:
    """A sentence that offers files with names like that of a missing one, beside it; None where there are none.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "lists.jsonl").write_text("{}")
        >>> near_files(folder / "list.jsonl").endswith("lists.jsonl?")
        True
    """
    try:
        beside = [inside.name for inside in path.parent.iterdir() if not inside.name.startswith(".")]
    except OSError:
        return f"There is no folder {path.parent}."
    close = difflib.get_close_matches(path.name, beside, n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(str(path.parent / name) for name in close)}?" if close else None


@contextmanager
def new_folder(path: Path | str, *, overwrite: bool = False, mark: str) -> Iterator[Path]:
    """A folder to fill: it appears at `path` when the block ends well, and not at all when it does not.

    The block fills a hidden folder beside it. A folder that stands at `path` is replaced at the end, and only if
    it holds the file `mark`, the sign that it was made so.

    Raises:
        FileError: `path` exists and `overwrite` is false, or it is something else, or can't be written.
    """
    target = Path(path)
    refuse_folder(target, overwrite=overwrite, mark=mark)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield temporary
        temporary.chmod(0o777 & ~_mask())
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old)
        else:
            temporary.replace(target)
        temporary = None
    except OSError as error:
        raise FileError(
            f"{target} can't be written: {error}.",
            fix="Nothing was left behind; free some space or choose another folder.",
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_folder(path: Path | str, *, overwrite: bool = False, mark: str) -> None:
    """Check, before long work, that a folder can be made at `path`, or the one there replaced.

    Raises:
        FileError: something stands there: a file, a folder that lacks the file `mark`, or `overwrite` is false.
    """
    target = Path(path)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise FileError(f"{target} is a file.", wanted="the path of a new folder")
    if not (target / mark).is_file():
        raise FileError(f"{target} exists and was not made by neurodial.", fix="Choose a new folder.")
    if not overwrite:
        raise FileError(f"{target} exists already.", fix="Choose another name, or say --force (overwrite=True).")


def write_atomic(path: Path | str, content: str | bytes, *, overwrite: bool = False) -> Path:
    """Write `content` (UTF-8 where it is text) to `path`: the whole of it, or nothing.

    The content goes to a temporary file in the same folder, is flushed to disk and then renamed, so an
    interrupted write or a full disk leaves the old file as it was.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> write_atomic(folder / "a.txt", "hello").read_text()
        'hello'
    """
    target = refuse_existing(path, overwrite=overwrite)
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:_SHOWN]}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(_file_mode())
        Path(temporary).replace(target)
        temporary = None
    except OSError as error:
        raise FileError(
            f"{target} can't be written: {error.strerror or error}.",
            fix="What stood there before is untouched; free some space or choose another folder.",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return target


def _file_mode() -> int:
    """The mode that an ordinary open() would give: mkstemp's own is readable by its owner only."""
    return 0o666 & ~_mask()


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(..., object_pairs_hook=...)`: an object's fields, none of which may stand twice.

    Raises:
        ValueError: names the first that does.

    Example:
        >>> refuse_repeats([("a", 1), ("b", 2)])
        {'a': 1, 'b': 2}
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is listed twice in one object")
    return found
