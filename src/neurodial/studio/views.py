"""View models: what the page draws, as plain values, made from circuits and scores alone. Pure and snapshot-tested."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.compare import compare
from neurodial.circuit.report import DoseReport, report_values
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError

BINS = 61
"""Bins of the histogram of scores."""
DRAWN = 4096
"""Neurons of a layer that the map draws at most, those of largest absolute score."""

Plain = dict[str, Any]
LayerScores = Mapping[int, Float[np.ndarray, "neuron"]]


def circuit_view(name: str, circuit: Circuit) -> Plain:
    """A circuit as its page shows it: table, layers, stability, origin.

    Example:
        >>> circuit_view("none", Circuit.of([], name="none"))["neurons"]
        0

    Raises:
        CircuitError: it has neurons of routed experts.
    """
    _refuse_experts(circuit)
    origin = circuit.origin
    kept = circuit.stability.kept if circuit.stability else (None,) * len(circuit)
    widths = origin.model.widths if origin.model else ()
    last = max((row.neuron.layer for row in circuit), default=0)
    counts = [0] * (len(widths) or last + 1)
    for row in circuit:
        counts[row.neuron.layer] += 1
    return {
        "id": name,
        "name": circuit.name,
        "direction": circuit.direction,
        "neurons": len(circuit),
        "share": len(circuit) / sum(widths) if widths else None,
        "rows": [
            [row.neuron.layer, row.neuron.index, _short(row.score), _short(row.dose), share]
            for row, share in zip(circuit, kept, strict=True)
        ],
        "layers": counts,
        "stability": stability_view(circuit),
        "model": None if origin.model is None else origin.model.label,
        "method": _flat(origin.method),
        "prompts": {key: origin.prompts[key] for key in ("positive", "negative") if key in origin.prompts},
        "universal": universal_view(circuit),
        "report": _report(origin.report),
        "created": origin.created,
        "versions": dict(origin.versions),
    }


def _refuse_experts(circuit: Circuit) -> None:
    if any(row.neuron.expert is not None for row in circuit):
        raise CircuitError(
            f"The circuit {circuit.name!r} has neurons of routed experts, which the studio does not draw yet.",
            fix="`neurodial show` and `neurodial compare` do.",
        )


def stability_view(circuit: Circuit) -> Plain | None:
    """Overlaps over the folds, their mean and the lowest; None where they were not measured."""
    if circuit.stability is None:
        return None
    overlaps = circuit.stability.overlaps
    return {
        "overlaps": [_short(overlap) for overlap in overlaps],
        "mean": _short(circuit.stability.mean),
        "low": min(overlaps),
    }


def universal_view(circuit: Circuit) -> Plain | None:
    """What the universal filter did; None where there was none."""
    filtered = circuit.origin.universal
    if filtered is None:
        return None
    removed = [[layer, index] for layer, _, index in filtered.get("would_have_been_chosen", [])]
    return {"flagged": filtered.get("flagged"), "removed": removed}


def scores_view(scores: LayerScores, circuit: Circuit) -> Plain:
    """All scores as a map of layer by rank, and as a histogram with the cut-off.

    Arrays travel as base64 of little-endian numbers: 50,000 neurons are 400 kB, not megabytes.

    Example:
        >>> from neurodial.circuit.circuit import Row
        >>> circuit = Circuit.of([Row(Neuron(0, None, 1), -2.0, 1.0)])
        >>> view = scores_view({0: np.array([1.0, -2.0])}, circuit)
        >>> view["chosen"], view["cutoff"], view["neurons"]
        ([[0, 0]], 2.0, 2)
    """
    order = {layer: np.argsort(-np.abs(values), kind="stable") for layer, values in scores.items()}
    removed = [Neuron(layer, None, index) for layer, index in (universal_view(circuit) or {"removed": []})["removed"]]
    return {
        "neurons": sum(len(values) for values in scores.values()),
        "largest": _short(max((float(np.abs(values).max()) for values in scores.values()), default=0.0)),
        "layers": [
            {
                "layer": layer,
                "width": len(scores[layer]),
                "index": _packed(order[layer][:DRAWN].astype("<u4")),
                "score": _packed(scores[layer][order[layer][:DRAWN]].astype("<f4")),
            }
            for layer in sorted(scores)
        ],
        "chosen": _ranks([row.neuron for row in circuit], order),
        "removed": _ranks(removed, order),
        "cutoff": min((abs(row.score) for row in circuit), default=None),
        "histogram": histogram(
            np.concatenate([scores[layer] for layer in sorted(scores)]), [row.score for row in circuit]
        ),
    }


def histogram(values: Float[np.ndarray, "neuron"], chosen: Sequence[float]) -> Plain:
    """Counts of all scores and of the chosen ones over equal bins.

    Example:
        >>> histogram(np.array([0.0, 1.0, 1.0]), [1.0])["counts"][-1]
        2
    """
    low, high = float(values.min()), float(values.max())
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    inside = np.clip(np.asarray(chosen, dtype=float), low, high)  # files round what memory holds
    return {
        "low": _short(low),
        "high": _short(high),
        "counts": np.histogram(values, edges)[0].tolist(),
        "chosen": np.histogram(inside, edges)[0].tolist(),
    }


def overlap_view(first: Circuit, second: Circuit) -> Plain:
    """What two circuits share, with the shared neurons themselves.

    Raises:
        CircuitError: their models have different shapes, or one has neurons of routed experts.
    """
    _refuse_experts(first)
    _refuse_experts(second)
    overlap = compare(first, second)
    other = {row.neuron: row for row in second}
    shared = [(row, other[row.neuron]) for row in first if row.neuron in other]
    return {
        "first": {"name": first.name, "neurons": overlap.first},
        "second": {"name": second.name, "neurons": overlap.second},
        "shared": overlap.shared,
        "jaccard": _short(overlap.jaccard),
        "expected": None if overlap.expected is None else _short(overlap.expected),
        "same_sign": None if overlap.same_sign is None else _short(overlap.same_sign),
        "by_layer": [list(row) for row in overlap.by_layer],
        "rows": [
            [
                mine.neuron.layer,
                mine.neuron.index,
                _short(mine.score),
                _short(theirs.score),
                _short(mine.dose),
                _short(theirs.dose),
            ]
            for mine, theirs in shared
        ],
    }


def doses_view(circuits: Mapping[str, Circuit], widths: Sequence[int]) -> Plain:
    """Several circuits' doses neuron by neuron; a neuron that a circuit lacks has None there.

    Args:
        circuits: by id, all of one model.
        widths: neurons of each layer of the model.

    Raises:
        CircuitError: a circuit has a neuron that the model has not, or one of routed experts.

    Example:
        >>> from neurodial.circuit.circuit import Row
        >>> one, other = (Circuit.of([Row(Neuron(0, None, k), 1.0, k / 2)], name=str(k)) for k in (1, 2))
        >>> doses_view({"one": one, "other": other}, [4])["rows"]
        [[0, 1, [0.5, None]], [0, 2, [None, 1.0]]]
    """
    doses: dict[tuple[int, int], list[float | None]] = {}
    for place, (name, circuit) in enumerate(circuits.items()):
        _refuse_experts(circuit)
        for row in circuit:
            layer, index = row.neuron.layer, row.neuron.index
            if layer >= len(widths) or index >= widths[layer]:
                raise CircuitError(f"The circuit {name!r} has a neuron {layer}.{index}, which this model has not.")
            absent: list[float | None] = [None] * len(circuits)
            doses.setdefault((layer, index), absent)[place] = _short(row.dose)
    return {
        "circuits": [
            {"id": name, "name": circuit.name, "direction": circuit.direction, "neurons": len(circuit)}
            for name, circuit in circuits.items()
        ],
        "widths": list(widths),
        "rows": [[layer, index, doses[layer, index]] for layer, index in sorted(doses)],
    }


def _ranks(neurons: Sequence[Neuron], order: Mapping[int, np.ndarray]) -> list[list[int]]:
    places = {layer: np.argsort(ranked) for layer, ranked in order.items()}  # of each index, its rank
    return [[n.layer, int(places[n.layer][n.index])] for n in neurons if n.layer in places]


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _flat(method: Mapping[str, Any]) -> Plain:
    """A method's options, nested ones on one line."""
    flat: Plain = {}
    for key, value in method.items():
        if isinstance(value, Mapping):
            inner = ", ".join(f"{name} {item}" for name, item in value.items() if name != "kind")
            flat[key] = f"{value.get('kind')}({inner})" if inner else str(value.get("kind"))
        else:
            flat[key] = value if isinstance(value, str | int | float) or value is None else str(value)
    return flat


def _report(report: DoseReport | None) -> Plain | None:
    """What a method predicted and measured, the trials left out."""
    if report is None:
        return None
    values = report_values(report)
    return {key: values[key] for key in ("measured", "predicted", "openers", "coverage", "goal") if key in values}
