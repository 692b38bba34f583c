"""Where a result comes from: which model, which versions, which choices. All torch-free."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

_PACKAGES = ("torch", "transformers", "safetensors", "peft")


@dataclass(frozen=True)
class ModelIdentity:
    """What a model is, apart from where it was found.

    Attributes:
        label: how the user named it. Only a label: two identities with other labels may be the same model.
        family: its model type; a label too.
        digest: SHA-256 over a fixed sample of every weight, rounded to bfloat16, before any adapter.
        adapter_digest: SHA-256 over the adapter's tensors and settings, or None.
        tokenizer_hash: SHA-256 over the vocabulary.
        template_hash: SHA-256 over the chat template, or None where there is none.
        dtype: the dtype that the model was run in.
        widths: number of neurons of each layer's dense MLP.
        setup: what was particular about how it was loaded and prompted: options of its chat template, weights of its
            checkpoint that have no place, experts that are not read, settings for generation; empty where nothing was.
        layout: digest of where its neurons are and where its blocks write; None in files from before it was measured.
        experts: number of each layer's routed experts and of the neurons of one, None for a layer without; empty where
            there are none that can be read, and in files from before they could be.
    """

    label: str
    family: str
    digest: str
    adapter_digest: str | None
    tokenizer_hash: str
    template_hash: str | None
    dtype: str
    widths: tuple[int, ...]
    setup: Mapping[str, Any] = field(default_factory=dict)
    layout: str | None = None
    experts: tuple[tuple[int, int] | None, ...] = ()

    @property
    def neurons(self) -> int:
        """Number of neurons, those of routed experts too."""
        return sum(self.widths) + sum(number * width for number, width in filter(None, self.experts))

    def has_shape_of(self, other: ModelIdentity) -> bool:
        """Whether both have the same neurons, as far as both say."""
        experts = not self.experts or not other.experts or self.experts == other.experts
        return self.widths == other.widths and experts

    def differences(self, other: ModelIdentity) -> list[str]:
        """What keeps a circuit made on `self` from being put on `other`; empty where nothing does.

        Labels, dtypes and setups may differ: they do not make another model.
        """
        found = []
        if self.widths != other.widths:
            found.append(f"neurons per layer ({_shape(self.widths)} against {_shape(other.widths)})")
        elif not self.has_shape_of(other):
            found.append("experts (another number or width)")
        if self.layout is None and other.layout is None and self.family != other.family:
            found.append(f"family ({self.family} against {other.family})")
        if None not in {self.layout, other.layout} and self.layout != other.layout:
            found.append(f"layout ({self.family} {_short(self.layout)} against {other.family} {_short(other.layout)})")
        if self.digest != other.digest:
            found.append(f"weights (digest {self.digest[:12]} against {other.digest[:12]})")
        if self.adapter_digest != other.adapter_digest:
            found.append(f"adapter ({_short(self.adapter_digest)} against {_short(other.adapter_digest)})")
        if self.tokenizer_hash != other.tokenizer_hash:
            found.append("tokenizer (another vocabulary)")
        return found


def setup_notes(setup: Mapping[str, Any]) -> list[str]:
    """A sentence on everything that was particular about how a model was loaded and prompted.

    Example:
        >>> setup_notes({"dropped_end": ["<eos>"]})
        ['The tokenizer puts <eos> after a plain text; it is left out, as the model goes on from there.']
    """
    notes = []
    if options := setup.get("template_options"):
        notes.append(f"Prompts are rendered with the template options {canonical_json(options)}.")
    if end := setup.get("dropped_end"):
        notes.append(
            f"The tokenizer puts {''.join(end)} after a plain text; it is left out, as the model goes on from there."
        )
    if unused := setup.get("unused_weights"):
        notes.append(
            f"{len(unused)} tensors of the checkpoint have no place in the model and are not used, such as {unused[0]}."
        )
    if routed := setup.get("routed_experts"):
        notes.append(f"Routed experts are not read: {len(routed)} modules, such as {routed[0]}.")
    generation = setup.get("generation") or {}
    if kept := generation.get("in_force"):
        notes.append(f"Of the checkpoint's generation settings these act: {canonical_json(kept)}.")
    if off := generation.get("switched_off"):
        notes.append(f"Of the checkpoint's generation settings these are switched off: {canonical_json(off)}.")
    return notes


def other_template(made: Mapping[str, Any], used: Mapping[str, Any]) -> str | None:
    """What to say where something was made with other template options than those in use; None where they agree.

    Example:
        >>> other_template({}, {"template_options": {"enable_thinking": False}})
        'made with the template options none, used with {"enable_thinking":false}'
    """
    first, second = (setup.get("template_options") or {} for setup in (made, used))
    if first == second:
        return None
    shown = [canonical_json(options) if options else "none" for options in (first, second)]
    return f"made with the template options {shown[0]}, used with {shown[1]}"


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
