"""The whole method on one screen: prompts in, a circuit out."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

from neurodial.activations.collect import collect
from neurodial.activations.gathering_engine import GatheringEngine
from neurodial.circuit.circuit import Circuit, Origin
from neurodial.circuit.selection import Select
from neurodial.errors import OptionError
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.judged import Shows
from neurodial.margins.margin import Margin
from neurodial.methods.check import check_without_gradients
from neurodial.methods.cna.attribute import Attribution, attribute, what_is_read
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.find_doses import find_doses
from neurodial.methods.dose.options import Dose
from neurodial.methods.registry import Method, with_select
from neurodial.methods.scores import Scores
from neurodial.methods.single.find_dose import find_single
from neurodial.methods.single.options import Single
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet, few_prompts
from neurodial.provenance import describe, now, versions

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A circuit, and the scores of all neurons that it was chosen from."""

    circuit: Circuit
    scores: Scores


def discover(
    subject: Subject | GatheringEngine,
    prompts: Contrast | PairSet,
    *,
    method: Method | None = None,
    select: Select | None = None,
    margin: Margin | None = None,
    shows: Shows | None = None,
    name: str = "circuit",
    progress: Progress = silent,
) -> Circuit:
    """Find the sparse set of MLP neurons behind a behaviour.

    Args:
        subject: the model, or an engine that runs it (`VLLM`), which `CNA` alone can read from.
        prompts: prompts that show the behaviour and prompts that show its opposite. `CNA` reads the discovery split
            of a `PairSet`; `Dose` and `Single` need a whole one, as they find doses on the development split.
        method: how, with every option; `CNA()`, the paper's, by default.
        select: how many neurons; the method's own by default.
        margin: for `Dose` and `Single`, a margin of your own, such as `ClassifierLogit(logit)`.
        shows: for `Dose` and `Single`, the behaviour's own detector: says of each (prompt, answer) whether the answer
            shows the behaviour. Margins are weighed by it; by default by a classifier of the model's own answers.
        name: the circuit's name.
        progress: shown while it runs.

    Returns:
        The circuit, with its stability over prompt folds and everything needed to make it again; from `Dose` and
        `Single` also with what was measured (`circuit.origin.report`).

    Raises:
        ContextLengthError: a prompt is longer than the context; found before any work.
        ActivationError: activations are not finite.
        MarginError: the method can't measure the behaviour by the margin asked for.
        BudgetError: the method can't meet its budget or target.
        EngineError: the engine can't be used, or did not see every neuron of every prompt once.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
        >>> circuit = discover(tiny_subject(), contrast, method=nd.CNA(universal=None))
        >>> len(circuit)
        1
    """
    return find(
        subject, prompts, method=method, select=select, margin=margin, shows=shows, name=name, progress=progress
    ).circuit


def find(
    subject: Subject | GatheringEngine,
    prompts: Contrast | PairSet,
    *,
    method: Method | None = None,
    select: Select | None = None,
    margin: Margin | None = None,
    shows: Shows | None = None,
    name: str = "circuit",
    progress: Progress = silent,
) -> Found:
    """As `discover`, with the scores of every neuron beside the circuit."""
    method = method or CNA()
    if select is not None:
        method = with_select(method, select)
    if isinstance(subject, GatheringEngine):
        method = check_without_gradients(method)
    elif not isinstance(method, CNA):
        return _searched(subject, prompts, method, _Given(margin, shows), name, progress)
    if margin is not None:
        raise OptionError("CNA has no margin.", wanted="method=Dose(...) with margin, or CNA without")
    contrast = prompts.discovery if isinstance(prompts, PairSet) else prompts
    notes = _notes(prompts, contrast)
    gathered = None
    if isinstance(subject, GatheringEngine):
        engine, subject = subject, subject.subject
        texts = what_is_read(subject, contrast, method)
        gathered = engine.gather([*texts.contrast, *texts.diverse], texts.reading, progress=progress)
    read = collect if gathered is None else gathered.read
    found = attribute(subject, contrast, method, read=read, progress=progress)
    origin = Origin(
        model=subject.identity if gathered is None else replace(subject.identity, dtype=gathered.dtype),
        method=describe(method),
        prompts=contrast.record | notes,
        behaviour=prompts.behaviour.name if isinstance(prompts, PairSet) else None,
        universal=None if method.universal is None else _filtered(found),
        versions=versions(),
        created=now(),
        engine=None if gathered is None else gathered.record,
    )
    return Found(Circuit.of(found.rows, name=name, origin=origin, stability=found.stability), found.scores)


class _Given(NamedTuple):
    """A caller's own margin and detector, where there are any."""

    margin: Margin | None
    shows: Shows | None


def _searched(
    subject: Subject,
    prompts: Contrast | PairSet,
    method: Dose | Single,
    given: _Given,
    name: str,
    progress: Progress,
) -> Found:
    if isinstance(prompts, Contrast):
        raise OptionError(
            f"Method {type(method).__name__.lower()} got one contrast.",
            wanted="a PairSet: neurons are found on the discovery split, and their doses on the development split",
            fix="Pass pairs, not pairs.discovery.",
        )
    notes = _notes(prompts, prompts.discovery)
    margin = None if given.margin is None else BehaviourMargin.of(given.margin)
    if isinstance(method, Dose):
        found = find_doses(subject, prompts, method, margin=margin, shows=given.shows, progress=progress)
    else:
        found = find_single(subject, prompts, method, margin=margin, shows=given.shows, progress=progress)
    contrast = prompts.discovery
    origin = Origin(
        model=subject.identity,
        method=describe(method),
        prompts={
            **contrast.record,
            "digests": sorted({*contrast.digests, *prompts.development.digests}),
            "development_hash": prompts.development.hash,
            **notes,
        },
        versions=versions(),
        seed=method.seed if isinstance(method, Dose) else None,
        created=now(),
        report=found.report,
        behaviour=prompts.behaviour.name,
        margin=found.margin.record(),
    )
    circuit = Circuit.of(found.rows, name=name, direction=method.direction, origin=origin, stability=found.stability)
    return Found(circuit, found.scores)


def _notes(prompts: Contrast | PairSet, contrast: Contrast) -> dict[str, object]:
    """What a circuit's record says of its prompts beside their hashes; that they are few is logged, too."""
    few = few_prompts(contrast)
    if few is not None:
        _log.warning("%s", few)
    notes = [*(prompts.notes if isinstance(prompts, PairSet) else ()), *([few] if few else [])]
    return {"notes": notes} if notes else {}


def _filtered(found: Attribution) -> dict[str, object]:
    return {
        "flagged": len(found.universal),
        "would_have_been_chosen": [[neuron.layer, neuron.expert, neuron.index] for neuron in found.removed],
    }
