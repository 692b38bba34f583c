"""Where a result comes from: which model, which versions, which choices. All torch-free."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

_PACKAGES = ("torch", "transformers", "safetensors", "peft")


@dataclass(frozen=True)
class ModelIdentity:
    """What a model is, apart from where it was found.

    Attributes:
        label: how the user named it. Only a label: two identities with other labels may be the same model.
        family: name of the family record that describes it.
        digest: SHA-256 over a fixed sample of every weight, rounded to bfloat16, before any adapter.
        adapter_digest: SHA-256 over the adapter's tensors and settings, or None.
        tokenizer_hash: SHA-256 over the vocabulary.
        template_hash: SHA-256 over the chat template, or None where there is none.
        dtype: the dtype that the model was run in.
        widths: number of MLP neurons of each layer.
    """

    label: str
    family: str
    digest: str
    adapter_digest: str | None
    tokenizer_hash: str
    template_hash: str | None
    dtype: str
    widths: tuple[int, ...]

    def differences(self, other: ModelIdentity) -> list[str]:
        """What keeps a circuit made on `self` from being put on `other`; empty where nothing does.

        Labels and dtypes may differ: they do not make another model.
        """
        found = []
        if self.widths != other.widths:
            found.append(f"neurons per layer ({_shape(self.widths)} against {_shape(other.widths)})")
        if self.family != other.family:
            found.append(f"family ({self.family} against {other.family})")
        if self.digest != other.digest:
            found.append(f"weights (digest {self.digest[:12]} against {other.digest[:12]})")
        if self.adapter_digest != other.adapter_digest:
            found.append(f"adapter ({_short(self.adapter_digest)} against {_short(other.adapter_digest)})")
        if self.tokenizer_hash != other.tokenizer_hash:
            found.append("tokenizer (another vocabulary)")
        return found


def versions() -> dict[str, str]:
    """Versions of neurodial and of the installed packages that a result depends on.

    Example:
        >>> sorted(versions())[0]
        'neurodial'
    """
    # Of the code that runs, which need not be installed. By name: the package lists every stage, this is an early one.
    found = {"neurodial": str(importlib.import_module("neurodial").__version__)}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The present time, UTC, to the second, ISO 8601."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def sha256(data: str | bytes) -> str:
    """Hexadecimal SHA-256 of bytes, or of text as UTF-8.

    Example:
        >>> sha256("a")[:8]
        'ca978112'
    """
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def describe(options: object) -> Any:
    """An options dataclass as plain JSON values, every field named, nested ones with their kind.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass(frozen=True)
        ... class Count:
        ...     value: int
        >>> describe(Count(46))
        {'kind': 'Count', 'value': 46}
    """
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        fields = {field.name: describe(getattr(options, field.name)) for field in dataclasses.fields(options)}
        return {"kind": type(options).__name__, **fields}
    if isinstance(options, Mapping):
        return {str(key): describe(value) for key, value in options.items()}
    if isinstance(options, tuple | list | frozenset):
        return [describe(value) for value in options]
    return options


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: the same value gives the same text, so it can be hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]


def _shape(widths: tuple[int, ...]) -> str:
    return f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else str(list(widths))
