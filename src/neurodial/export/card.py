"""The model card: what an export is, from what, how strong, how measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurodial.export.equivalence import EquivalenceCheck
from neurodial.export.formats import export_format
from neurodial.export.manifest import VERIFICATION, Manifest
from neurodial.files import write_atomic


@dataclass(frozen=True)
class CardResult:
    """A number of an evaluation, for the card.

    Attributes:
        metric: its name in the report.
        title: in words, with the condition and the interval.
        value: in percent for shares.
        prompts: what it was measured on, in words.
    """

    metric: str
    title: str
    value: float
    prompts: str


def add_results(folder: Path, name: str, results: Sequence[CardResult]) -> None:
    """Put the numbers of an evaluation into the front matter of a card, as `model-index`, which the Hub shows.

    Raises:
        FileError: the card can't be written.
    """
    card = folder / "README.md"
    opening, front, rest = card.read_text(encoding="utf-8").split("---\n", maxsplit=2)
    lines = ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
    for result in results:
        metric = {"type": result.metric, "name": result.title, "value": result.value}
        lines += [
            '  - task: {"type": "text-generation"}',
            f"    dataset: {json.dumps({'type': 'custom', 'name': result.prompts}, ensure_ascii=False)}",
            f"    metrics: {json.dumps([metric], ensure_ascii=False)}",
        ]
    write_atomic(card, "---\n".join([opening, front + "\n".join(lines) + "\n", rest]), overwrite=True)


def write_card(folder: Path, manifest: Manifest, checks: Sequence[EquivalenceCheck]) -> None:
    """Write README.md with front matter."""
    write_atomic(folder / "README.md", card_text(manifest, checks), overwrite=True)


def card_text(manifest: Manifest, checks: Sequence[EquivalenceCheck]) -> str:
    """The card as Markdown."""
    parts = [
        _front_matter(manifest),
        f"# {manifest.name} at dial {_dials(manifest)}, for {manifest.base.label}",
        export_format(manifest.route).description,
        _what_it_is(manifest),
        _use(manifest),
        _engines(manifest),
        _measured(checks),
        _licence(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(manifest: Manifest) -> str:
    """YAML; JSON strings are YAML strings, so foreign names can't break it."""
    form = export_format(manifest.route)
    lines = [
        "---",
        f"base_model: {json.dumps(manifest.base.label)}",
        f"base_model_relation: {form.relation}",
        f"library_name: {form.hub_library}",
        f"license: {json.dumps(manifest.base.licence)}" if manifest.base.licence else "license: other",
        *([] if manifest.base.licence else ["license_name: that-of-the-base-model"]),
        "tags:",
        *(f"- {tag}" for tag in ("neurodial", "steering", manifest.route)),
        "---",
    ]
    return "\n".join(lines)


def _dials(manifest: Manifest) -> str:
    if manifest.is_one_dial:
        return f"{manifest.strength:g}"
    return ", ".join(f"{part.dial:g}" for part in manifest.circuits)


def _what_it_is(manifest: Manifest) -> str:
    rows = [
        f"- circuit `{part.name}`: {part.neurons} MLP neurons, dial {part.dial:g} "
        f"(1 means: {part.direction} the behaviour); file `{part.file}`"
        for part in manifest.circuits
    ]
    identity = manifest.base.identity
    rows.append(
        f"- base model: `{manifest.base.label}`, weights digest `{str(identity.get('digest'))[:16]}`, "
        f"run in {identity.get('dtype')}"
    )
    if manifest.adapter is not None:
        beside = f" (`{manifest.adapter.file}`)" if manifest.adapter.file else ""
        types = ", ".join(f"{count} weights {way}" for way, count in manifest.adapter.types.items())
        rows.append(
            f"- the base carried an adapter; it goes along: {manifest.adapter.how}{beside}"
            f"{f' ({types})' if types else ''}"
        )
    rows.append(f"- {sum(manifest.ranks.values())} neurons in {len(manifest.ranks)} layers, rank {manifest.rank}")
    rows.append(f"- made with neurodial {manifest.versions.get('neurodial', '')}, {manifest.created}")
    return "\n".join(rows)


def _use(manifest: Manifest) -> str:
    strength = (
        f"At strength `s` each neuron is multiplied by `1 - s * {manifest.strength:g} * dose`: "
        f"strength 1 is dial {_dials(manifest)}, 0 the unsteered model."
        if manifest.is_one_dial
        else "Strength 1 is the mixture of the circuits at their dials, 0 the unsteered model."
    )
    form = export_format(manifest.route)
    return "## Use\n\n" + form.usage(manifest) + (f"\n\n{strength}" if form.is_dialled else "")


def _engines(manifest: Manifest) -> str:
    rows = [f"| {note['engine']} | {'yes' if note['can'] else 'no'} | {note['how']} |" for note in manifest.engines]
    return "## Engines\n\n| engine | takes it | how |\n|---|---|---|\n" + "\n".join(rows)


def _measured(checks: Sequence[EquivalenceCheck]) -> str:
    head = (
        f"## Measured\n\nLargest difference of a next-token log-probability, in nats, over {checks[0].prompts} real "
        f"prompts and {checks[0].places} places; `{VERIFICATION}` has all numbers, "
        "`neurodial verify FOLDER` repeats it.\n\n"
        "| loaded by | strength | files against hook | allowed | hook against unsteered |\n|---|---|---|---|---|\n"
    )
    rows = (
        f"| {check.engine} | {check.strength:g} | {check.difference:.2g} | {check.tolerance:g} | {check.effect:.2g} |"
        for check in checks
    )
    return head + "\n".join(rows)


def _licence(manifest: Manifest) -> str:
    known = f" ({manifest.base.licence})" if manifest.base.licence else ""
    return f"## Licence\n\nThe base model's licence{known} applies to what is made from its weights, these files too."
