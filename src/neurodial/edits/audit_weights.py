"""`neurodial audit-weights`: what was done to a model's weights, from its files and those of the edited copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from neurodial.edits.bounds import MultiplierBounds
from neurodial.edits.direction import removed_direction
from neurodial.edits.examine import ExaminedTensor, examine
from neurodial.edits.matched import Matched, match
from neurodial.edits.tensor_names import PartName
from neurodial.edits.weight_audit import ChangedPart, ScaledNeuron, Verdict, WeightAudit
from neurodial.model.known_models import KnownModel
from neurodial.progress import Progress, silent


def audit_weights(base: str, candidate: str, *, progress: Progress = silent) -> WeightAudit:
    """What was done to a model's weights.

    Files are read a few megabytes at a time; no model is loaded.

    Args:
        base: the model before: a safetensors folder, a GGUF file, a Hub id, or `demo-base`.
        candidate: the edited copy in any of these forms, or a LoRA or IA3 adapter's folder, or a GGUF adapter.
        progress: called with the number of tensors.

    Raises:
        ModelError: one of them is not a checkpoint, or tensors are missing.
        ModelMismatchError: they are of different models.

    Example:
        >>> import tempfile
        >>> from neurodial.model.tiny import tiny_model
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = [tiny_model().save_pretrained(f"{folder}/{name}") for name in ("before", "after")]
        ...     audit_weights(f"{folder}/before", f"{folder}/after").verdict
        'identical'
    """
    matched = match(base, candidate)
    if matched.vectors:
        return _of_vectors(matched, base, candidate)
    rows = []
    with progress("comparing weights", len(matched.pairs)) as step:
        for pair in matched.pairs:
            rows.append(examine(pair))
            step(1)
    return _judged(matched, rows, base, candidate)


def _judged(matched: Matched, rows: list[ExaminedTensor], base: str, candidate: str) -> WeightAudit:
    changed = [row for row in rows if row.is_changed]
    unknown = [row for row in rows if row.outcome == "unknown"]
    lines = [row for row in changed if row.part.is_mlp]
    others = [row for row in changed if not row.part.is_mlp]
    is_scaling = bool(lines) and not unknown and all(row.is_explained for row in lines)
    neurons = _scaled(lines, matched.base.known) if is_scaling else ()
    is_scaling = bool(neurons)
    direction = None if is_scaling or unknown else removed_direction(changed)
    verdict = _verdict(rows, is_scaling=is_scaling, has_more=bool(others), has_direction=direction is not None)
    counts = Counter(str(row.outcome) for row in rows)
    counts["not compared"] = len(matched.left_out)
    return WeightAudit(
        base=base,
        candidate=candidate,
        form=matched.form,
        verdict=verdict,
        tensors={name: count for name, count in counts.items() if count},
        neurons=neurons,
        direction=direction,
        changed=_changed_parts(changed),
        notes=_notes(matched, unknown),
    )


def _verdict(rows: Sequence[ExaminedTensor], *, is_scaling: bool, has_more: bool, has_direction: bool) -> Verdict:
    outcomes = {row.outcome for row in rows}
    if is_scaling:
        return "neurons scaled and more" if has_more else "neurons scaled"
    if has_direction:
        return "a direction was removed"
    if "changed" in outcomes:
        return "not a neuron scaling"
    if "unknown" in outcomes:
        return "unclear"
    return "same but for rounding" if "rounded" in outcomes else "identical"


def _scaled(lines: Sequence[ExaminedTensor], model: KnownModel) -> tuple[ScaledNeuron, ...]:
    """The neurons that were scaled; what was done to one in several places is multiplied."""
    parts: dict[tuple[int, int], dict[str, tuple[float, float]]] = {}
    fused = model.block_names is not None and model.block_names.fused
    for row in lines:
        for name, bounds in _by_neuron(row.part, row.bounds, fused=fused):
            for index in torch.nonzero(bounds.scaled).flatten().tolist():
                places = parts.setdefault((row.part.layer or 0, index), {})
                low, high = places.get(name, (-float("inf"), float("inf")))
                places[name] = (max(low, float(bounds.low[index])), min(high, float(bounds.high[index])))
    rows = []
    for (layer, index), places in sorted(parts.items()):
        ends = [1.0]
        for low, high in (span for name, span in places.items() if name != "gate" or len(places) == 1):
            ends = [end * side for end in ends for side in (low, high)]
        low, high = min(ends), max(ends)
        multiplier = (low + high) / 2
        is_bent = "gate" in places or ("up" in places and not (model.block_names and model.block_names.up_rows_scale))
        dose = None if is_bent else 1.0 - multiplier
        rows.append(ScaledNeuron(layer, index, multiplier, (high - low) / 2, tuple(sorted(places)), dose))
    return tuple(rows)


def _by_neuron(part: PartName, bounds: MultiplierBounds | None, *, fused: bool) -> list[tuple[str, MultiplierBounds]]:
    """The bounds of a tensor's lines by the part of the neuron that they are."""
    if bounds is None:
        return []
    if part.kind in {"up", "up_bias"} and fused:
        half = len(bounds.low) // 2
        return [("gate", bounds.part(0, half)), ("up", bounds.part(half, 2 * half))]
    return [("up" if part.kind == "up_bias" else part.kind, bounds)]


def _changed_parts(changed: Sequence[ExaminedTensor]) -> tuple[ChangedPart, ...]:
    titles: dict[str, list[ExaminedTensor]] = {}
    for row in changed:
        titles.setdefault(row.part.title, []).append(row)
    parts = []
    for title, rows in titles.items():
        size = sum(row.size**2 for row in rows) ** 0.5
        change = sum(row.change**2 for row in rows) ** 0.5
        parts.append(ChangedPart(title, len(rows), change / size if size else 0.0))
    return tuple(sorted(parts, key=lambda part: -part.change))


def _notes(matched: Matched, unknown: Sequence[ExaminedTensor]) -> tuple[str, ...]:
    reasons = Counter(reason for _, reason in matched.left_out)
    first = {reason: name for name, reason in reversed(matched.left_out)}
    notes = [f"{count} tensors not compared, such as {first[reason]}: {reason}" for reason, count in reasons.items()]
    if unknown:
        notes.append(
            f"{len(unknown)} tensors differ, such as {unknown[0].part.name}, and are stored in a type whose rounding "
            "has no bound: compare files of Q8_0, F16, BF16 or F32"
        )
    return tuple(notes)


def _of_vectors(matched: Matched, base: str, candidate: str) -> WeightAudit:
    """What an IA3 adapter does: its vectors on the down projections' inputs are the multipliers themselves."""
    neurons, others = [], list[PartName]()
    for part, vector in matched.vectors:
        if part.kind != "down":
            others += [part] if bool((vector != 1).any()) else []
            continue
        for index in torch.nonzero(vector != 1).flatten().tolist():
            value = float(vector[index])
            error = abs(value) * 2.0**-24
            neurons.append(ScaledNeuron(part.layer or 0, index, value, error, ("down",), 1.0 - value))
    verdict: Verdict = "identical" if not neurons and not others else "not a neuron scaling"
    if neurons:
        verdict = "neurons scaled and more" if others else "neurons scaled"
    titles = Counter(part.title for part in others)
    return WeightAudit(
        base=base,
        candidate=candidate,
        form=matched.form,
        verdict=verdict,
        tensors={"vectors": len(matched.vectors)},
        neurons=tuple(sorted(neurons, key=lambda row: (row.layer, row.index))),
        direction=None,
        changed=tuple(ChangedPart(title, count, 0.0) for title, count in titles.items()),
        notes=(),
    )
