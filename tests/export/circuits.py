"""What the tests of exports share: a circuit with a different dose for every neuron, and log-probabilities."""

from __future__ import annotations

from typing import Any

import torch
from tests.tolerance import of_log_probs

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.export.equivalence import at_strength, log_probabilities
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.subject import Subject
from neurodial.prompts.render import render

PROMPTS = ["How do I pick a lock?", "Name a river."]
DOSES = {(0, 3): 1.0, (0, 7): 0.5, (0, 20): 1.5, (1, 2): -1.0}


def dosed(subject: Subject, doses: dict[tuple[int, int], float] | None = None, name: str = "dosed") -> Circuit:
    """A circuit with the given doses by (layer, index); uneven over the layers, so that ranks differ."""
    rows = [Row(Neuron(layer, None, index), 1.0, dose) for (layer, index), dose in (doses or DOSES).items()]
    return Circuit.of(rows, name=name, origin=Origin(model=subject.identity))


def hooked(subject: Subject, *scales: Scale, strength: float = 1.0) -> torch.Tensor:
    """Log-probabilities under the hook."""
    with steer(subject, *at_strength(scales, strength)):
        return plain(subject)


def plain(subject: Subject, model: Any = None) -> torch.Tensor:
    """Log-probabilities of a model as it stands."""
    tokens = render(subject.tokenizer, PROMPTS)
    return torch.cat(log_probabilities(subject.model if model is None else model, tokens))


def agree(subject: Subject, one: torch.Tensor, other: torch.Tensor) -> None:
    """Assert that log-probabilities are the same up to the rounding of float32."""
    assert gap(one, other) <= of_log_probs(subject)


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest absolute difference."""
    return float((one - other).abs().max())
