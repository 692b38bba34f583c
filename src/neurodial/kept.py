"""Finished pieces of long work, kept on disk, so that the same command goes on where it was stopped.

Inside `with keeping(folder, model):` a function marked `@kept(...)` writes what it gives to the folder, under a hash
of what it was asked; asked the same again, it reads that. Outside such a block it is an ordinary function.
Numbers and tensors come back bit by bit, so a run that was stopped ends as one that was not. Torch-free.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from neurodial.files import write_atomic
from neurodial.provenance import ModelIdentity, canonical_json, describe, sha256, versions

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")
_IGNORED = {"subject", "progress", "budget", "unsteered"}
"""Arguments that are no part of what was asked: the model stands in the identity, the others change no result.

What `unsteered` holds follows from the model and the passages."""


class KeptForm(NamedTuple):
    """How a value is written.

    Attributes:
        pack: the value as JSON has it, and tensors by name.
        unpack: the reverse; also gets the call's arguments by name.
    """

    pack: Callable[[Any], tuple[Any, Mapping[str, Any]]]
    unpack: Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class _Keeper:
    folder: Path
    identity: str

    def key(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """The hash of what is asked; None where an argument is nothing that can be written down, such as a function."""
        asked = {key: describe(value) for key, value in arguments.items() if key not in _IGNORED}
        try:
            return sha256(canonical_json([self.identity, name, asked]))
        except TypeError:
            return None

    def read(self, key: str) -> tuple[Any, Mapping[str, Any]] | None:
        try:
            plain = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        tensors = self.folder / f"{key}.safetensors"
        if not tensors.exists():
            return plain, {}
        from safetensors.torch import load_file

        return plain, load_file(tensors)

    def write(self, key: str, plain: Any, tensors: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if tensors:
            from safetensors.torch import save

            apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
            write_atomic(self.folder / f"{key}.safetensors", save(apart), overwrite=True)
        write_atomic(self.folder / f"{key}.json", json.dumps(plain), overwrite=True)  # last: it says that all is there


_KEEPER: ContextVar[_Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def keeping(folder: Path, model: ModelIdentity | None = None) -> Iterator[None]:
    """Keep finished pieces in `folder` while the block runs; the folder goes when the block ends well.

    Args:
        folder: for these pieces alone; made when there is one.
        model: the model that the block works on: pieces of another, or of other versions of packages, are not read.

    Example:
        >>> import tempfile
        >>> asked = []
        >>> @kept("doubled", KeptForm(lambda value: (value, {}), lambda plain, tensors, arguments: plain))
        ... def doubled(number):
        ...     asked.append(number)
        ...     return 2 * number
        >>> folder = Path(tempfile.mkdtemp()) / "partial"
        >>> with keeping(folder):
        ...     doubled(3), doubled(3), asked
        (6, 6, [3])
        >>> folder.exists()
        False
    """
    identity = canonical_json([describe(model), versions()])
    token = _KEEPER.set(_Keeper(folder, identity))
    try:
        yield
    finally:
        _KEEPER.reset(token)
    shutil.rmtree(folder, ignore_errors=True)


def kept(name: str, form: KeptForm) -> Callable[[Callable[Arguments, Value]], Callable[Arguments, Value]]:
    """Mark a function whose value is kept inside `keeping`.

    Args:
        name: of the piece of work; a new one where the same arguments no longer mean the same.
        form: how its value is written.
    """

    def mark(function: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
        signature = inspect.signature(function)

        @wraps(function)
        def kept_or_made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
            keeper = _KEEPER.get()
            if keeper is None:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            key = keeper.key(name, bound.arguments)
            before = None if key is None else keeper.read(key)
            if before is not None:
                value: Value = form.unpack(*before, bound.arguments)
                return value
            made = function(*args, **kwargs)
            if key is not None:
                keeper.write(key, *form.pack(made))
            return made

        return kept_or_made

    return mark
