"""`doses.json`: what an engine multiplies neurons by itself, without an adapter. Written, and read back.

Each layer says where its neurons are and which have a dose, and holds some entries of their columns of the down
projection, by which the engine's side tells another model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron, Site, site_of
from neurodial.export.loaded import Loaded
from neurodial.export.recipe import Recipe
from neurodial.files import write_atomic
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.module_places import module_place
from neurodial.model.subject import Subject

DOSES = "doses.json"
FORMAT = "neurodial.doses"
VERSION = 1
COLUMNS, ENTRIES = 8, 32
"""How many columns of a layer are known by how many entries each."""


def write_doses(subject: Subject, recipe: Recipe, folder: Path) -> None:
    """Write the doses of a circuit at dial 1.

    Raises:
        ModelError: a down projection gives no finite columns.
    """
    dense = [
        _layer(subject, Site(layer), {(index,): dose for index, dose in of.items()})
        for layer, of in recipe.doses.items()
    ]
    routed = [_layer(subject, Site(layer, routed=True), of) for layer, of in recipe.routed.items()]
    value = {"format": FORMAT, "version": VERSION, "layers": [*dense, *routed]}
    write_atomic(folder / DOSES, json.dumps(value) + "\n")


def _layer(subject: Subject, site: Site, doses: Mapping[Any, float]) -> dict[str, Any]:
    """A layer; the place of a neuron is its index, that of an expert's neuron [expert, index]."""
    places = sorted(doses)
    known = [places[number] for number in _evenly(len(places), COLUMNS)]
    entries = _evenly(subject.hidden_size, ENTRIES)
    width = subject.shape(site)[-1]
    numbers = [place[-1] + (place[0] * width if site.routed else 0) for place in known]
    columns = subject.down_columns(site, numbers)[entries].T
    return {
        **module_place(subject, site),
        "indices": [_written(place) for place in places],
        "doses": [doses[place] for place in places],
        "columns": {"indices": [_written(place) for place in known], "entries": entries, "values": columns.tolist()},
    }


def _written(place: tuple[int, ...]) -> int | list[int]:
    return list(place) if len(place) > 1 else place[0]


def _evenly(count: int, most: int) -> list[int]:
    """At most so many places of a list, evenly spread."""
    places = torch.linspace(0, count - 1, min(most, count), dtype=torch.float64)
    return sorted({round(place) for place in places.tolist()})


@contextmanager
def through_doses(subject: Subject, strength: float, folder: Path) -> Iterator[Loaded]:
    """The file's doses, as read back, put on the live model by our own hook."""
    layers = json.loads((folder / DOSES).read_text(encoding="utf-8"))["layers"]
    rows = [
        Row(Neuron(site_of(layer["name"]).layer, *_read(place)), 1.0, dose)
        for layer in layers
        for place, dose in zip(layer["indices"], layer["doses"], strict=True)
    ]
    circuit = Circuit.of(rows)
    with ExitStack() as stack:

        def set_strength(share: float) -> None:
            stack.close()
            stack.enter_context(steer(subject, Scale(circuit, dial=share * strength)))

        set_strength(1.0)
        yield Loaded(subject.model, "the file's doses, read back", set_strength)


def _read(place: int | list[int]) -> tuple[int | None, int]:
    return (place[0], place[1]) if isinstance(place, list) else (None, place)
