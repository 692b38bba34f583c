"""`nla_meta.yaml`: what a verbaliser or a reconstructor says of itself, read before any weight.

The file is the contract of the public pairs (Transformer Circuits 2026, natural-language autoencoders): everything that
differs between pairs stands in it, so nothing of it is written down here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neurodial.errors import VerbaliserError
from neurodial.nla.injection import Injection

FILE = "nla_meta.yaml"
KIND = "nla_model"
Role = Literal["verbaliser", "reconstructor"]
_SHORT: dict[Role, tuple[str, ...]] = {"verbaliser": ("av", "actor"), "reconstructor": ("ar", "critic")}
_LAYER = (
    ("extraction_layer_index",), ("extraction", "layer_index"), ("ar", "num_hidden_layers"),
    ("critic", "extraction_layer_index"),
)  # fmt: skip
"""Where the layer may stand; a reconstructor's `num_hidden_layers` is the layer, one less than its blocks."""


@dataclass(frozen=True)
class NlaMeta:
    """What a meta file says.

    Attributes:
        source: folder or Hub id.
        role: which of the two it is.
        width: of the vectors.
        layer: the block whose output it is about, from 0; None where the file does not say.
        template: its prompt, with a place for the vector's marker or for the text.
        injection: how a vector is put into the prompt; None for a reconstructor.
        base: what is known of the model that it was made for: label and digests; empty in public files.
    """

    source: str
    role: Role
    width: int
    layer: int | None
    template: str
    injection: Injection | None = None
    base: Mapping[str, Any] = field(default_factory=dict)


def read_meta(source: str | Path, role: Role) -> NlaMeta:
    """What a local folder or a Hub id says of itself.

    Raises:
        VerbaliserError: there is no such file, it is damaged, lacks a field, or is of the other role.
    """
    import yaml

    path = _file(source, role)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VerbaliserError(f"{path} can't be read: {' '.join(str(error).split())}.", wanted="YAML") from error
    return parse_meta(value, str(source), role)


def parse_meta(value: object, source: str, role: Role) -> NlaMeta:
    """A meta file's content.

    Raises:
        VerbaliserError: names the field that is missing or makes no sense.

    Example:
        >>> value = {"kind": "nla_model", "role": "ar", "d_model": 8, "prompt_templates": {"ar": "{explanation} so:"}}
        >>> parse_meta({**value, "ar": {"num_hidden_layers": 3}}, "pair/ar", "reconstructor").layer
        3
    """
    fields = _Fields(value, source)
    if fields.get("kind") != KIND:
        raise VerbaliserError(f"{source}: kind in {FILE} is {fields.get('kind')!r}.", wanted=KIND)
    stated = fields.get("role")
    if stated is not None and stated not in _SHORT[role]:
        raise VerbaliserError(
            f"{source} is no {role}: its {FILE} says role {stated!r}.",
            wanted=f"role {' or '.join(_SHORT[role])}",
            fix="Were verbaliser and reconstructor exchanged?",
        )
    width = fields.number("d_model")
    if width != int(width) or width < 1:
        raise VerbaliserError(f"{source}: d_model in {FILE} is {width:g}.", wanted="a whole number from 1")
    template = next((text for name in _SHORT[role] if (text := fields.get("prompt_templates", name))), None)
    mark = "{injection_char}" if role == "verbaliser" else "{explanation}"
    if not isinstance(template, str) or template.count(mark) != 1:
        raise VerbaliserError(
            f"{source}: prompt_templates.{_SHORT[role][0]} in {FILE} is {template!r}.", wanted=f"a text with one {mark}"
        )
    base = fields.get("base")
    return NlaMeta(
        source=source,
        role=role,
        width=int(width),
        layer=_layer(fields),
        template=template,
        injection=_injection(fields, template, int(width)) if role == "verbaliser" else None,
        base=dict(base) if isinstance(base, Mapping) else {},
    )


@dataclass(frozen=True)
class _Fields:
    """A nested mapping whose missing fields are errors that name them."""

    value: object
    source: str

    def get(self, *path: str) -> Any:
        found = self.value
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def number(self, *path: str) -> float:
        found = self.get(*path)
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise self._wrong(path, found, "a number")
        return float(found)

    def text(self, *path: str) -> str:
        found = self.get(*path)
        if not isinstance(found, str) or not found:
            raise self._wrong(path, found, "a text")
        return found

    def token(self, *path: str) -> int:
        found = self.number(*path)
        if found < 0 or found != int(found):
            raise self._wrong(path, found, "a token id")
        return int(found)

    def _wrong(self, path: tuple[str, ...], found: object, wanted: str) -> VerbaliserError:
        name = ".".join(path)
        what = f"lacks {name}" if found is None else f"has {name} {found!r}"
        return VerbaliserError(
            f"{self.source}: {FILE} {what}.",
            wanted=wanted,
            fix="The file belongs to the weights: take it from where they came from.",
        )


def _layer(fields: _Fields) -> int | None:
    stated = {int(fields.number(*path)) for path in _LAYER if fields.get(*path) is not None}
    if len(stated) > 1:
        raise VerbaliserError(f"{fields.source}: {FILE} names the layers {sorted(stated)}.", wanted="one layer")
    return stated.pop() if stated else None


def _injection(fields: _Fields, template: str, width: int) -> Injection:
    stated = fields.get("extraction", "injection_scale")
    scale = math.sqrt(width) if stated == "sqrt_d_model" else fields.number("extraction", "injection_scale")
    if scale <= 0:
        raise VerbaliserError(f"{fields.source}: injection_scale in {FILE} is {scale:g}.", wanted="above 0")
    return Injection(
        char=fields.text("tokens", "injection_char"),
        token=fields.token("tokens", "injection_token_id"),
        left=fields.token("tokens", "injection_left_neighbor_id"),
        right=fields.token("tokens", "injection_right_neighbor_id"),
        scale=scale,
        template=template,
    )


def _file(source: str | Path, role: Role) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        path = folder / FILE
        if not path.is_file():
            inside = sorted(each.parent.name for each in folder.glob(f"*/{FILE}"))
            fix = f"Did you mean {folder / inside[0]}?" if inside else None
            raise VerbaliserError(f"{folder} has no {FILE}.", wanted=f"the folder of a {role}", fix=fix)
        return path
    from neurodial.errors import ModelError
    from neurodial.model.which_model import refuse_no_model

    try:
        refuse_no_model(str(source))
    except ModelError as error:
        raise VerbaliserError(
            f"There is no {role} {str(source)!r}.", wanted=f"a Hub id, or a folder with {FILE}", fix=error.fix
        ) from error
    from huggingface_hub import hf_hub_download

    from neurodial.model.damage import DAMAGE, error_text

    try:
        return Path(hf_hub_download(str(source), FILE))
    except DAMAGE as error:
        raise VerbaliserError(
            f"{source} has no {FILE} that can be read: {error_text(error)}",
            wanted=f"a Hub id of a {role}, or a folder with {FILE}",
            fix="Check the spelling, the network (or HF_HUB_OFFLINE) and, for gated models, your token.",
        ) from error
