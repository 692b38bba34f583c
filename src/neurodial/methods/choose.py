"""From scores to neurons: the strongest, by a rule of selection."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.circuit import Row
from neurodial.circuit.selection import Select, show_select
from neurodial.circuit.site import Neuron, places
from neurodial.errors import OptionError
from neurodial.methods.base import Sign
from neurodial.methods.scores import Scores


@dataclass(frozen=True)
class Rule:
    """Which neurons may be chosen, and the rule of selection.

    Attributes:
        select: the rule of selection, by strength.
        sign: of the scores.
        skip_layers: layers that are left out.
        excluded: neurons that are left out.
    """

    select: Select
    sign: Sign = "both"
    skip_layers: tuple[int, ...] = ()
    excluded: Collection[Neuron] = ()


def choose(scores: Scores, rule: Rule) -> tuple[Row, ...]:
    """The neurons of largest absolute score, best first, each with dose 1.

    A fraction is of all neurons of the model, skipped and excluded ones included. Ties go to the smaller
    (layer, expert, index), so a choice of k lies within the choice of k + 1.

    Raises:
        OptionError: a layer to skip does not exist, nothing is left to choose from, or no score is strong enough.

    Example:
        >>> from neurodial.circuit.selection import Count
        >>> from neurodial.circuit.site import Site
        >>> rows = choose(Scores({Site(0): torch.tensor([1.0, -2.0, 0.5])}), Rule(Count(2)))
        >>> [row.neuron.index for row in rows]
        [1, 0]
    """
    allowed = _allowed(scores, rule)
    values = scores.flat()
    strength = {"both": values.abs(), "positive": values, "negative": -values}[rule.sign]
    if rule.sign != "both":
        allowed &= strength > 0
    if not bool(allowed.any()):
        raise OptionError(
            "No neuron is left to choose from.",
            wanted=f"scores of sign {rule.sign} outside layers {list(rule.skip_layers)}",
            fix="Skip fewer layers, or take another sign.",
        )
    order = rule.select.choose(torch.where(allowed, strength, -torch.inf), scores.layers())
    if not order.numel():
        raise OptionError(
            f"The selection {show_select(rule.select)} takes no neuron.", wanted="one that the strongest score meets"
        )
    neurons = scores.neurons_at(order.tolist())
    return tuple(Row(*pair, 1.0) for pair in zip(neurons, values[order].tolist(), strict=True))


def check_skipped(skip_layers: Collection[int], layers: Collection[int]) -> None:
    """Refuse, before any work, to skip layers that do not exist, or all of them.

    Raises:
        OptionError: names the layers that exist.
    """
    unknown = sorted(set(skip_layers) - set(layers))
    there_are = f"layers from {min(layers)} to {max(layers)}"
    if unknown:
        raise OptionError(f"There is no layer {unknown[0]} to skip.", wanted=there_are)
    if set(skip_layers) == set(layers):
        raise OptionError("Every layer is skipped.", wanted=f"at least one left of the {there_are}")


def _allowed(scores: Scores, rule: Rule) -> Float[Tensor, "all"] | Tensor:
    check_skipped(rule.skip_layers, [site.layer for site in scores])
    masks = []
    for site in scores:
        mask = torch.full(scores[site].shape, site.layer not in rule.skip_layers)
        excluded = [neuron for neuron in rule.excluded if neuron.site == site]
        if excluded:
            mask[places(excluded)] = False
        masks.append(mask.flatten())
    return torch.cat(masks)
