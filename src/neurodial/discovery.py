"""The whole method on one screen: prompts in, a circuit out."""

from __future__ import annotations

import dataclasses

from neurodial.attribution.cna import Attribution, attribute
from neurodial.attribution.methods import CNA
from neurodial.circuit.circuit import Circuit, Origin
from neurodial.circuit.select import Select
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.provenance import describe, now, versions


def discover(
    subject: Subject,
    contrast: Contrast,
    *,
    method: CNA | None = None,
    select: Select | None = None,
    name: str = "circuit",
    progress: Progress = silent,
) -> Circuit:
    """Find the sparse set of MLP neurons behind a behaviour.

    Args:
        subject: the model.
        contrast: prompts that show the behaviour and prompts that show its opposite; of a `PairSet`, the
            discovery split.
        method: how, with every option; `CNA()`, the paper's, by default.
        select: how many neurons; the method's own by default.
        name: the circuit's name.
        progress: shown while it runs.

    Returns:
        The circuit, with its stability over prompt folds and everything needed to make it again.

    Raises:
        ContextLengthError: a prompt is longer than the context; found before any work.
        ActivationError: activations are not finite.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
        >>> circuit = discover(tiny_subject(), contrast, method=nd.CNA(universal=None))
        >>> len(circuit)
        1
    """
    method = method or CNA()
    if select is not None:
        method = dataclasses.replace(method, select=select)
    found = attribute(subject, contrast, method, progress=progress)
    origin = Origin(
        model=subject.identity,
        method=describe(method),
        prompts={"hash": contrast.hash, "positive": len(contrast.positive), "negative": len(contrast.negative)},
        universal=None if method.universal is None else _filtered(found),
        versions=versions(),
        created=now(),
    )
    return Circuit.of(found.rows, name=name, origin=origin, stability=found.stability)


def _filtered(found: Attribution) -> dict[str, object]:
    return {
        "flagged": len(found.universal),
        "would_have_been_chosen": [[neuron.layer, neuron.expert, neuron.index] for neuron in found.removed],
    }
