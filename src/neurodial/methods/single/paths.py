"""The one neuron as a path: each candidate pinned against the sign of its mean on P+ (arXiv 2605.08513)."""

from __future__ import annotations

from functools import partial

from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Pin
from neurodial.margins.margin import Margin
from neurodial.methods.single.find_neuron import pinned_value
from neurodial.methods.single.scores_of_neurons import CandidateNeuron, CandidateSearch, candidates
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Contrast
from neurodial.strength.path import StrengthPath

PINNED = (0.1, 8.0)
"""Strengths: multiples of the neuron's mean on P+, with the sign turned."""


def pin_paths(
    subject: Subject, margin: Margin, contrast: Contrast, *, search: CandidateSearch | None = None
) -> list[StrengthPath]:
    """One path for each candidate neuron.

    Raises:
        GradientError: the model gives no gradients.
        ActivationError: no neuron is more active on the positive prompts than on the negative ones.

    Example:
        >>> from neurodial.margins.margin import Openers
        >>> from neurodial.model.tiny import tiny_subject
        >>> contrast = Contrast.of(["harm one", "harm two"], ["help one", "help two"])
        >>> [path] = pin_paths(tiny_subject(), Openers.of([(40,)]), contrast, search=CandidateSearch(count=1))
        >>> path.high
        8.0
    """
    return [
        StrengthPath(*PINNED, partial(_pinned, candidate), {"neuron": list(candidate.neuron)})
        for candidate in candidates(subject, margin, contrast, search=search)
    ]


def _pinned(candidate: CandidateNeuron, strength: float) -> Intervention:
    return Pin({candidate.neuron: pinned_value(candidate, strength)})
