"""A model against the one that it was tuned from: what tuning did to a behaviour's circuit.

1. A circuit of each: found by one method on the same prompts, or given.
2. What they share, beside chance; how alike all neurons' differences of means rank in both models.
3. The circuits' neurons in both: differences, ranks, how far their weights moved against the rest of their layer;
   of those that changed most, what they write and read in both.
4. Each circuit on each model at one dial, beside random neurons: the margin on test prompts, and damage.
5. What changed in the weights as a whole (`audit_weights`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.compare import CircuitOverlap, compare, rank_correlation
from neurodial.circuit.controls import random_control
from neurodial.discovery import discover
from neurodial.edits.audit_weights import audit_weights
from neurodial.edits.tuned_neurons import (
    NeuronInBoth,
    TunedNeuron,
    explained_in_both,
    side_differences,
    tuned_neurons,
)
from neurodial.edits.tuning_options import ComparingModels
from neurodial.edits.weight_audit import WeightAudit
from neurodial.errors import MarginError, ModelError, ModelMismatchError
from neurodial.evaluation.intervals import Estimate, wilson
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.scale import Scale, check_neurons
from neurodial.margins.behaviour_margin import BehaviourMargin, recorded_margin
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.measure import measure_margins
from neurodial.methods.cna.options import CNA
from neurodial.methods.registry import Method
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Prompt
from neurodial.provenance import now, versions
from neurodial.strength.development import mean_of

NAMES = ("base", "tuned")


@dataclass(frozen=True)
class CircuitOnModel:
    """What something does on a model.

    Attributes:
        circuit: of which model it is: base, tuned, random, or none for the unsteered model.
        model: base or tuned.
        margin: mean over the test prompts, in nats.
        above: share of them with a margin above 0.
        damage: nats per token on the model's own neutral answers; 0 unsteered.
    """

    circuit: str
    model: str
    margin: float
    above: Estimate
    damage: float


@dataclass(frozen=True)
class ModelComparison:
    """A model against the one that it was tuned from.

    Attributes:
        labels: of base and tuned.
        behaviour: by name.
        method: how the circuits were found.
        overlap: of the two circuits.
        ranks_all: Spearman's correlation of all neurons' differences in both models.
        ranks_circuits: the same over the neurons of either circuit.
        neurons: of either circuit, in both models.
        explained: those whose difference changed most, with what they write and read in both.
        transfer: circuits on models, beside the unsteered ones and random neurons.
        margin: what the margins are, in words, by model.
        weights: what was done to the weights; None where the files can't be read.
        notes: what was left out, and why.
        options: how it was measured.
    """

    labels: tuple[str, str]
    behaviour: str
    method: dict[str, Any]
    overlap: CircuitOverlap
    ranks_all: float | None
    ranks_circuits: float | None
    neurons: tuple[TunedNeuron, ...]
    explained: tuple[NeuronInBoth, ...]
    transfer: tuple[CircuitOnModel, ...]
    margin: tuple[str, str]
    weights: WeightAudit | None
    notes: tuple[str, ...]
    options: ComparingModels

    def change(self, circuit: str, model: str) -> float:
        """How far a circuit moves the margin on a model, in nats."""
        by_name = {(row.circuit, row.model): row.margin for row in self.transfer}
        return by_name[circuit, model] - by_name["none", model]

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        value = {**asdict(self), "weights": None if self.weights is None else self.weights.as_json()}
        return {"format": "neurodial.model-comparison", "version": 1, **value, "versions": versions(), "created": now()}


def compare_models(
    base: Subject,
    tuned: Subject,
    pairs: PairSet,
    *,
    neutral: Sequence[Prompt],
    circuits: tuple[Circuit, Circuit] | None = None,
    method: Method | None = None,
    options: ComparingModels | None = None,
    progress: Progress = silent,
) -> ModelComparison:
    """What tuning did to a behaviour's circuit.

    Args:
        base: the model before.
        tuned: the model after; of the same shape.
        pairs: the behaviour.
        neutral: prompts that damage is measured on.
        circuits: of base and tuned; None to find them.
        method: how they are found: the paper's attribution by default.
        options: how it is measured.
        progress: shown while it runs.

    Raises:
        ModelMismatchError: the models have different neurons.
        SteeringError: a model lacks a circuit's neuron.
        MarginError: no margin tells the behaviour's sides apart on the tuned model.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> few = nd.ComparingModels(prompts=2, passages=2, answer_tokens=2)
        >>> pair = tiny_subject(), tiny_subject(seed=1)
        >>> found = nd.compare_models(*pair, nd.PairSet.read("formality"), neutral=["Hi", "Why?"], options=few)
        >>> len(found.transfer)
        8
    """
    options = options or ComparingModels()
    if base.everything != tuned.everything or base.hidden_size != tuned.hidden_size:
        raise ModelMismatchError(
            f"{base.label} has {base.neurons} neurons in {base.layers} layers, {tuned.label} {tuned.neurons} in "
            f"{tuned.layers}; or their layers, experts or hidden sizes differ.",
            wanted="two models of one shape, one tuned from the other",
        )
    notes: list[str] = []
    if options.tuned_template:
        base = with_template_of(tuned, base)
    elif base.identity.template_hash != tuned.identity.template_hash:
        notes.append("the models render prompts with different chat templates (--tuned-template: with one)")
    subjects = (base, tuned)
    chosen = method or CNA()
    if circuits is None:
        first, second = (discover(subject, pairs, method=chosen, progress=progress) for subject in subjects)
        circuits = first, second
    for subject in subjects:
        for circuit in circuits:
            check_neurons(circuit.neurons, subject)
    differences = [side_differences(subject, pairs.discovery, progress=progress) for subject in subjects]
    neurons = tuned_neurons(subjects, circuits, differences)
    margins = _margins(subjects, pairs, notes, progress)
    transfer = _transfer(subjects, circuits, margins, (pairs, neutral, options, progress))
    return ModelComparison(
        labels=(base.label, tuned.label),
        behaviour=pairs.behaviour.name,
        method=dict(circuits[1].origin.method),
        overlap=compare(*circuits),
        ranks_all=rank_correlation(*(side.difference.flat().tolist() for side in differences)),
        ranks_circuits=rank_correlation([n.difference[0] for n in neurons], [n.difference[1] for n in neurons]),
        neurons=neurons,
        explained=explained_in_both(subjects, neurons, options.explained),
        transfer=transfer,
        margin=(margins[0].text, margins[1].text),
        weights=_weights(base, tuned, notes, progress),
        notes=tuple(notes),
        options=options,
    )


def with_template_of(tuned: Subject, base: Subject) -> Subject:
    """The base, rendering prompts with the tuned model's chat template."""
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = tuned.tokenizer.chat_template
    return replace(base, tokenizer=tokenizer)


def _margins(
    subjects: tuple[Subject, Subject], pairs: PairSet, notes: list[str], progress: Progress
) -> tuple[BehaviourMargin, BehaviourMargin]:
    """The tuned model's margin, on both where the base can be measured by it."""
    base, tuned = subjects
    contrasts = [contrast for contrast in (pairs.discovery, pairs.development, pairs.test) if contrast is not None]
    theirs = choose_margin(tuned, pairs, progress=progress).for_prompts(tuned, contrasts)
    ours = None
    if base.identity.tokenizer_hash == tuned.identity.tokenizer_hash:
        try:
            ours = recorded_margin(theirs.record(), base, pairs.behaviour, contrasts, progress=progress)
        except MarginError as error:
            notes.append(f"the tuned model's margin can't be used on the base: {error.problem}")
    if ours is None:
        notes.append("margins of the two models are of different kinds, so they can't be compared with each other")
        ours = choose_margin(base, pairs, progress=progress).for_prompts(base, contrasts)
    return ours, theirs


def _transfer(
    subjects: tuple[Subject, Subject],
    circuits: tuple[Circuit, Circuit],
    margins: tuple[BehaviourMargin, BehaviourMargin],
    how: tuple[PairSet, Sequence[Prompt], ComparingModels, Progress],
) -> tuple[CircuitOnModel, ...]:
    pairs, neutral, options, progress = how
    test = pairs.test or pairs.development
    examples = test.about(circuits[1].direction)[: options.prompts or None]
    known = circuits[1]
    if known.origin.model is None:
        known = replace(known, origin=replace(known.origin, model=subjects[1].identity))
    parts = {
        "base": circuits[0],
        "tuned": circuits[1],
        "random": random_control(known, seed=options.seed, match="layer"),
    }
    rows = []
    for name, subject, margin in zip(NAMES, subjects, margins, strict=True):
        decoding = Decoding(max_new_tokens=options.answer_tokens)
        passages = own_answers(subject, neutral[: options.passages], decoding=decoding, progress=progress)
        scales = [Scale(circuit, options.dial, force=True) for circuit in parts.values()]
        damage = [0.0, *(found.mean for found in measure_divergence(subject, passages, scales, progress=progress))]
        for circuit, under, nats in zip(("none", *parts), (None, *scales), damage, strict=True):
            values = measure_margins(subject, margin.pushed, examples, under=under, progress=progress)
            above = wilson(sum(value > 0 for value in values), len(values))
            rows.append(CircuitOnModel(circuit, name, mean_of(values), above, nats))
    return tuple(rows)


def _weights(base: Subject, tuned: Subject, notes: list[str], progress: Progress) -> WeightAudit | None:
    """What was done to the weights, from the files that both were loaded from; an adapter by its own files."""
    if base.adapter is not None:
        notes.append("the weights were not compared as files: the base has an adapter")
        return None
    after = tuned.source or tuned.label if tuned.adapter is None else tuned.adapter.path
    try:
        audit = audit_weights(base.source or base.label, after, progress=progress)
    except ModelError as error:
        notes.append(f"the weights were not compared as files: {error.problem}")
        return None
    return replace(audit, base=base.label, candidate=tuned.label)
