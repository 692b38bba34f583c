"""View models: what the page draws, as plain values, made from circuits and scores alone. Pure and snapshot-tested.

The page calls a neuron by its layer and its place in the layer: those of the dense MLP first, then one expert's after
the other's.
"""

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
from neurodial.circuit.site import AllNeurons, Neuron, Site
from neurodial.errors import CircuitError

BINS = 61
"""Bins of the histogram of scores."""
DRAWN = 4096
"""Neurons of a layer that the map draws at most, those of largest absolute score."""

Plain = dict[str, Any]
SiteScores = Mapping[Site, Float[np.ndarray, "*neuron"]]


def circuit_view(name: str, circuit: Circuit) -> Plain:
    """A circuit as its page shows it: table, layers, stability, origin.

    Example:
        >>> circuit_view("none", Circuit.of([], name="none"))["neurons"]
        0

    Raises:
        CircuitError: it has neurons of routed experts, and does not say of which model.
    """
    origin = circuit.origin
    everything = _model_of(circuit)
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
        "share": len(circuit) / everything.count if everything.count else None,
        "rows": [
            [*page_name(row.neuron, everything), _short(row.score), _short(row.dose), share]
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


def page_name(neuron: Neuron, everything: AllNeurons) -> list[int]:
    """What the page calls a neuron: its layer and its place there.

    Example:
        >>> everything = AllNeurons({Site(2): (4,), Site(2, routed=True): (2, 3)})
        >>> page_name(Neuron(2, 1, 2), everything), neuron_of(2, 9, everything)
        ([2, 9], Neuron(layer=2, expert=1, index=2))
    """
    if neuron.expert is None:
        return [neuron.layer, neuron.index]
    [position] = everything.positions([neuron])
    return [neuron.layer, position - everything.layer_span(neuron.layer).start]


def neuron_of(layer: int, place: int, everything: AllNeurons) -> Neuron:
    """The neuron that the page calls so; beyond the model, one that no model has."""
    span = everything.layer_span(layer)
    return everything.at([span.start + place])[0] if place < len(span) else Neuron(layer, None, place)


def experts_view(everything: AllNeurons, layers: int) -> list[list[int] | None]:
    """Of each layer with routed experts: neurons of its dense MLP, and of one expert; None for a layer without.

    Example:
        >>> experts_view(AllNeurons({Site(0): (4,), Site(1, routed=True): (2, 3)}), 2)
        [None, [0, 3]]
    """
    shapes = everything.shapes
    return [
        [math.prod(shapes.get(Site(layer), (0,))), shapes[Site(layer, routed=True)][-1]]
        if Site(layer, routed=True) in shapes
        else None
        for layer in range(layers)
    ]


def _model_of(circuit: Circuit) -> AllNeurons:
    """All neurons of the model that a circuit names; none where it names none."""
    if circuit.origin.model is not None:
        return AllNeurons.of(circuit.origin.model)
    if any(row.neuron.expert is not None for row in circuit):
        raise CircuitError(
            f"The circuit {circuit.name!r} has neurons of routed experts, and does not say of which model.",
            wanted="a circuit whose file names its model",
            fix="Discover it again, or read its table with the model (read_neurons(..., model=...)).",
        )
    return AllNeurons({})


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
    everything = _model_of(circuit)
    removed = [page_name(neuron, everything) for neuron in _removed(circuit)]
    return {"flagged": filtered.get("flagged"), "removed": removed}


def _removed(circuit: Circuit) -> list[Neuron]:
    """Neurons that the universal filter kept out."""
    return [Neuron(*place) for place in (circuit.origin.universal or {}).get("would_have_been_chosen", [])]


def scores_view(scores: SiteScores, circuit: Circuit) -> Plain:
    """All scores as a map of layer, or layer and expert, by rank, and as a histogram with the cut-off.

    Arrays travel as base64 of little-endian numbers: 50,000 neurons are 400 kB, not megabytes.

    Example:
        >>> from neurodial.circuit.circuit import Row
        >>> circuit = Circuit.of([Row(Neuron(0, None, 1), -2.0, 1.0)])
        >>> view = scores_view({Site(0): np.array([1.0, -2.0])}, circuit)
        >>> view["chosen"], view["cutoff"], view["neurons"]
        ([[0, 0]], 2.0, 2)
    """
    everything = AllNeurons({site: values.shape for site, values in scores.items()})
    rows = {
        (site.layer, expert if site.routed else None): values
        for site in sorted(scores)
        for expert, values in enumerate(scores[site].reshape(-1, scores[site].shape[-1]))
    }
    order = {row: np.argsort(-np.abs(values), kind="stable") for row, values in rows.items()}
    return {
        "neurons": everything.count,
        "largest": _short(max((float(np.abs(values).max()) for values in scores.values()), default=0.0)),
        "layers": [
            {
                "layer": layer,
                "expert": expert,
                "width": len(values),
                "index": _packed(
                    (order[layer, expert][:DRAWN] + page_name(Neuron(layer, expert, 0), everything)[1]).astype("<u4")
                ),
                "score": _packed(values[order[layer, expert][:DRAWN]].astype("<f4")),
            }
            for (layer, expert), values in rows.items()
        ],
        "chosen": _ranks([row.neuron for row in circuit], order),
        "removed": _ranks(_removed(circuit), order),
        "cutoff": min((abs(row.score) for row in circuit), default=None),
        "histogram": histogram(
            np.concatenate([scores[site].reshape(-1) for site in sorted(scores)]), [row.score for row in circuit]
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
        CircuitError: their models have different shapes, or one has neurons of routed experts and names no model.
    """
    everything = _model_of(first)
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
                *page_name(mine.neuron, everything),
                _short(mine.score),
                _short(theirs.score),
                _short(mine.dose),
                _short(theirs.dose),
            ]
            for mine, theirs in shared
        ],
    }


def doses_view(circuits: Mapping[str, Circuit], everything: AllNeurons, layers: int) -> Plain:
    """Several circuits' doses neuron by neuron; a neuron that a circuit lacks has None there.

    Args:
        circuits: by id, all of one model.
        everything: all neurons of the model.
        layers: number of its layers.

    Raises:
        CircuitError: a circuit has a neuron that the model has not.

    Example:
        >>> from neurodial.circuit.circuit import Row
        >>> one, other = (Circuit.of([Row(Neuron(0, None, k), 1.0, k / 2)], name=str(k)) for k in (1, 2))
        >>> doses_view({"one": one, "other": other}, AllNeurons({Site(0): (4,)}), 1)["rows"]
        [[0, 1, [0.5, None]], [0, 2, [None, 1.0]]]
    """
    doses: dict[tuple[int, int], list[float | None]] = {}
    for place, (name, circuit) in enumerate(circuits.items()):
        for row in circuit:
            if not everything.has(row.neuron):
                raise CircuitError(f"The circuit {name!r} has a neuron ({row.neuron.name}), which this model has not.")
            layer, index = page_name(row.neuron, everything)
            absent: list[float | None] = [None] * len(circuits)
            doses.setdefault((layer, index), absent)[place] = _short(row.dose)
    return {
        "circuits": [
            {"id": name, "name": circuit.name, "direction": circuit.direction, "neurons": len(circuit)}
            for name, circuit in circuits.items()
        ],
        "widths": [len(everything.layer_span(layer)) for layer in range(layers)],
        "rows": [[layer, index, doses[layer, index]] for layer, index in sorted(doses)],
    }


def _ranks(neurons: Sequence[Neuron], order: Mapping[tuple[int, int | None], np.ndarray]) -> list[list[int]]:
    """Layer and rank of each neuron, and its expert where it has one."""
    places = {row: np.argsort(ranked) for row, ranked in order.items()}  # of each index, its rank
    return [
        [n.layer, int(places[n.layer, n.expert][n.index]), *([] if n.expert is None else [n.expert])]
        for n in neurons
        if (n.layer, n.expert) in places
    ]


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
