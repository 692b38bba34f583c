"""Folds of prompts, and how little a choice of neurons depends on any of them (a jackknife)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from neurodial.circuit.circuit import Stability
from neurodial.circuit.site import Neuron
from neurodial.prompts.prompt import Prompt
from neurodial.provenance import canonical_json, sha256


def fold_of_each(prompts: Sequence[Prompt], count: int) -> list[int]:
    """The fold of each prompt: dealt in the order of the prompts' hashes, so it does not depend on their order.

    Example:
        >>> sorted(fold_of_each(["a", "b", "c", "d"], 2))
        [0, 0, 1, 1]
    """
    keys = [sha256(canonical_json(repr(prompt))) for prompt in prompts]
    ranks = {key: rank for rank, key in enumerate(sorted(keys))}
    return [ranks[key] % count for key in keys]


def stability_over_folds(
    chosen: Collection[Neuron], folds: int, choose_without: Callable[[int], Iterable[Neuron]]
) -> Stability | None:
    """What is chosen again when one fold of the prompts is left out; None with fewer than two folds.

    Args:
        chosen: the neurons of the circuit.
        folds: how many folds there are.
        choose_without: the neurons that are chosen without a fold.
    """
    if folds < 2:
        return None
    again = [set(chosen) & set(choose_without(fold)) for fold in range(folds)]
    ordered = sorted(chosen, key=lambda neuron: neuron.order)
    return Stability(
        overlaps=tuple(len(common) / len(chosen) for common in again),
        kept=tuple(sum(neuron in common for common in again) / folds for neuron in ordered),
    )
