"""One layer's bank in one process: a row of multipliers for each setting, and how another model is told.

Imports the standard library and torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

NEAR, NEAR_ROUNDED = 0.02, 0.4
"""How far from the circuit's model a column may be, as a share of its length: stored as it is, and quantised."""


class Doses(NamedTuple):
    """A circuit's doses in one layer, those of this process: places in a row of the bank, doses in float64."""

    places: torch.Tensor
    doses: torch.Tensor


@dataclass(frozen=True)
class LayerBank:
    """One layer's bank.

    Attributes:
        rows: the multipliers of each setting in use (slot, neuron), of routed experts (slot, expert, neuron).
        experts: the experts that are here; None for a dense layer.
        neurons: those of each that are here.
        doses: of each circuit that touches the layer.
    """

    rows: torch.Tensor
    experts: list[int] | None
    neurons: range
    doses: dict[str, Doses] = field(default_factory=dict)

    def take(self, circuit: str, layer: Mapping[str, Any]) -> None:
        """Take a circuit's doses, those that are here."""
        found = [(self.place(index), dose) for index, dose in zip(layer["indices"], layer["doses"], strict=True)]
        here = [(place, dose) for place, dose in found if place is not None]
        places = torch.tensor([place for place, _ in here], dtype=torch.long)
        self.doses[circuit] = Doses(places, torch.tensor([dose for _, dose in here], dtype=torch.float64))

    def place(self, index: Any) -> int | None:
        """Where a neuron stands in a row laid out flat, by its index or [expert, index]; None where it is not here."""
        expert, own = (None, index) if self.experts is None else index
        if own not in self.neurons:
            return None
        if self.experts is None:
            return self.neurons.index(own)
        if expert not in self.experts:
            return None
        return self.experts.index(expert) * len(self.neurons) + self.neurons.index(own)

    def write(self, slot: int, dials: Mapping[str, float]) -> None:
        """Write a row: `1 - sum of dial * dose`, in float64 until it is stored."""
        row = torch.ones(self.rows[0].numel(), dtype=torch.float64)
        for circuit, dial in dials.items():
            if circuit in self.doses:
                places, doses = self.doses[circuit]
                row.index_add_(0, places, doses, alpha=-dial)
        self.rows[slot].copy_(row.view(self.rows[slot].shape))


@torch.inference_mode()
def check_columns(module: Any, bank: LayerBank, layer: Mapping[str, Any], circuit: str) -> None:
    """Hold columns of a layer's down projections against those of the circuit's model.

    Raises:
        ValueError: they are another model's.
    """
    known = layer["columns"]
    mine = [
        (number, place) for number, index in enumerate(known["indices"]) if (place := bank.place(index)) is not None
    ]
    read = _columns if bank.experts is None else _columns_of_experts
    found = read(module, bank, [place for _, place in mine], known["entries"]) if mine else None
    if found is None:
        return
    wanted = torch.tensor([known["values"][number] for number, _ in mine], dtype=torch.float64)
    near = NEAR if type(module.quant_method).__name__.startswith("Unquantized") else NEAR_ROUNDED
    apart = float((found.double().cpu() - wanted).norm() / wanted.norm())
    if not apart <= near:
        raise ValueError(
            f"the circuit {circuit!r} is another model's: columns of layer {layer['name']} are {apart:.2g} of their "
            f"length away from those that it was made on, and at most {near:g} is rounding"
        )


def _columns(module: Any, bank: LayerBank, places: list[int], entries: list[int]) -> torch.Tensor:
    """What the layer makes of unit vectors."""
    units = torch.zeros(len(places), len(bank.neurons), dtype=bank.rows.dtype, device=bank.rows.device)
    units[range(len(places)), places] = 1
    found: torch.Tensor = module.quant_method.apply(module, units, None)
    return found[:, entries]


def _columns_of_experts(module: Any, bank: LayerBank, places: list[int], entries: list[int]) -> torch.Tensor | None:
    """Columns of the experts' own weight; None where it is no plain one."""
    weight = module.w2_weight
    if not weight.is_floating_point() or weight.element_size() < 2 or weight.dim() != 3:
        return None
    experts = torch.tensor([place // len(bank.neurons) for place in places], device=weight.device)
    within = torch.tensor([place % len(bank.neurons) for place in places], device=weight.device)
    found: torch.Tensor = weight[experts, :, within][:, entries]
    return found
