"""Writing files so that nothing is lost: all of the file or none of it, and never over another one unasked."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
