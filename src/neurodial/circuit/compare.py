"""How much two circuits share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.circuit.circuit import Circuit


@dataclass(frozen=True)
class CircuitOverlap:
    """The overlap of two circuits.

    Attributes:
        first: number of neurons of the first.
        second: number of neurons of the second.
        shared: number of neurons of both.
        jaccard: shared over all.
        expected: neurons that two random circuits of these sizes would share; None where the shape is not known.
        same_sign: share of the shared neurons whose scores have the same sign.
        ranks: Spearman's correlation of the shared neurons' scores; None for fewer than three, or constant ones.
        by_layer: for each layer that either touches: its number, neurons of the first, of the second, of both.
    """

    first: int
    second: int
    shared: int
    jaccard: float
    expected: float | None
    same_sign: float | None
    ranks: float | None
    by_layer: tuple[tuple[int, int, int, int], ...]


def compare(first: Circuit, second: Circuit) -> CircuitOverlap:
    """Overlap of two circuits, beside the overlap expected by chance.

    Raises:
        CircuitError: their models have different shapes.

    Example:
        >>> from neurodial.circuit.circuit import Circuit, Row
        >>> from neurodial.circuit.site import Neuron
        >>> a = Circuit.of([Row(Neuron(0, None, 1), 1.0, 1.0), Row(Neuron(0, None, 2), 1.0, 1.0)])
        >>> compare(a, a.top(1)).jaccard
        0.5
    """
    both = (first & second).neurons
    model = first.origin.model or second.origin.model
    scores = {row.neuron: row.score for row in second}
    agreeing = [row.score * scores[row.neuron] > 0 for row in first if row.neuron in both]
    pairs = [(row.score, scores[row.neuron]) for row in first if row.neuron in both]
    layers = sorted({neuron.layer for neuron in first.neurons | second.neurons})
    sets = (first.neurons, second.neurons, both)
    return CircuitOverlap(
        first=len(first),
        second=len(second),
        shared=len(both),
        jaccard=len(both) / max(1, len(first.neurons | second.neurons)),
        expected=None if model is None else len(first) * len(second) / model.neurons,
        same_sign=sum(agreeing) / len(agreeing) if agreeing else None,
        ranks=rank_correlation([a for a, _ in pairs], [b for _, b in pairs]),
        by_layer=tuple(
            (layer, *(sum(neuron.layer == layer for neuron in neurons) for neurons in sets))  # type: ignore[misc]
            for layer in layers
        ),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's correlation; None for fewer than three numbers, or where one side is constant.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0], [2.0, 4.0, 9.0])
        1.0
    """
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    from scipy.stats import spearmanr

    return round(float(spearmanr(first, second).statistic), 9)
