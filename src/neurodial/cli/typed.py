"""The command line as it was typed, for the record: what makes a result again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class _Typed:
    arguments: tuple[str, ...] = ()


_TYPED = _Typed()


def remember(arguments: Sequence[str]) -> None:
    """Keep what was typed after the program's name."""
    _TYPED.arguments = tuple(arguments)


def typed_command() -> str:
    """The command, ready to be typed again in the same folder.

    Absolute paths tell of one machine alone: those below the working folder are made relative, others keep their name.

    Example:
        >>> remember(["evaluate", "demo", "mine=my circuit.json@1", "-o", "report"])
        >>> typed_command()
        "neurodial evaluate demo 'mine=my circuit.json@1' -o report"
    """
    return shlex.join(["neurodial", *(_PATH.sub(_portable, argument) for argument in _TYPED.arguments)])


_PATH = re.compile(r"(?<![^=:,])(?:~|/(?!/))[^=:,@]*")
"""A path from the root or the home, at the start of an argument or after `=`, `:` or a comma."""


def _portable(match: re.Match[str]) -> str:
    path = Path(match[0]).expanduser()
    if not (path.exists() or (path.parent != Path("/") and path.parent.exists())):
        return match[0]  # no path: a pattern, an address, a word
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
