"""What neurons do when their dial alone is turned: to the margin, and to neutral answers; and what groups carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.circuit.circuit import Circuit
from neurodial.explain.options import Explaining
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.intervention.scale import Scale
from neurodial.margins.behaviour_margin import BehaviourMargin, recorded_margin
from neurodial.margins.choose_margin import choose_margin
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Prompt
from neurodial.strength.development import Development


@dataclass(frozen=True)
class Effect:
    """What turning some neurons to dial 1 does.

    Attributes:
        margin: change of the mean margin, in nats.
        damage: nats per token on neutral answers.
        damage_error: standard error of that.
    """

    margin: float
    damage: float
    damage_error: float


@dataclass(frozen=True)
class GroupEffect:
    """A group of like neurons, and what of the circuit's effect it carries.

    Attributes:
        channels: its neurons, as numbers of the circuit's rows.
        alone: what its neurons do alone.
        without: what the others do without it.
        share: of the circuit's change of the margin, what is lost without the group; they need not add up to 1.
    """

    channels: tuple[int, ...]
    alone: Effect
    without: Effect | None
    share: float | None


@dataclass(frozen=True)
class CircuitEffects:
    """What the circuit, its shown neurons and its groups do.

    Attributes:
        margin: the margin in words.
        before: its mean without steering.
        prompts: how many prompts it was measured on.
        tokens: how many neutral tokens the damage was measured on.
        circuit: the whole circuit at dial 1.
        neurons: each shown neuron alone, by its channel.
        groups: each group.
    """

    margin: str
    before: float
    prompts: int
    tokens: int
    circuit: Effect
    neurons: dict[int, Effect]
    groups: tuple[GroupEffect, ...]


@dataclass(frozen=True, eq=False)
class Measuring:
    """With what a circuit's effects are measured.

    Attributes:
        pairs: whose development prompts are used.
        margin: what tells the behaviour.
        neutral: prompts for the damage.
    """

    pairs: PairSet
    margin: BehaviourMargin
    neutral: Sequence[Prompt]


def measuring_of(
    subject: Subject, circuit: Circuit, pairs: PairSet, neutral: str = "neutral", *, progress: Progress = silent
) -> Measuring:
    """What a circuit's effects are measured with: the margin that it was found by, else the behaviour's.

    Args:
        subject: the model.
        circuit: that is measured.
        pairs: the behaviour.
        neutral: prompts for the damage, a shipped list or a file.
        progress: shown while it runs.

    Raises:
        PromptError: a prompt lacks what the margin reads.
    """
    record = circuit.origin.margin
    made_on = circuit.origin.model
    fits = made_on is None or made_on.tokenizer_hash == subject.identity.tokenizer_hash
    margin = None
    if record is not None and fits:
        margin = recorded_margin(record, subject, pairs.behaviour, [pairs.development], progress=progress)
    if margin is None:
        margin = choose_margin(subject, pairs, direction=circuit.direction, progress=progress)
    return Measuring(pairs, margin, read_prompt_list(neutral).prompts)


def measure_effects(
    subject: Subject,
    circuit: Circuit,
    measuring: Measuring,
    *,
    shown: Sequence[int],
    groups: Sequence[Sequence[int]],
    options: Explaining,
    force: bool = False,
    progress: Progress = silent,
) -> CircuitEffects:
    """Turn every shown neuron, every group and the rest without it to dial 1, all on the same prompts.

    Args:
        subject: the model.
        circuit: whose dial is turned.
        measuring: with what.
        shown: numbers of the circuit's rows that are turned alone.
        groups: the circuit's rows in groups; groups of all rows or of one shown row are not measured twice.
        options: how many prompts and passages.
        force: steer a model that the circuit was not made on.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        MarginError: a prompt lacks what the margin reads.
    """
    everything = tuple(range(len(circuit)))
    parts: dict[tuple[int, ...], Effect] = {everything: Effect(0.0, 0.0, 0.0)}
    for chosen in (*((channel,) for channel in shown), *map(tuple, groups)):
        parts.setdefault(tuple(chosen), Effect(0.0, 0.0, 0.0))
    for group in groups:
        rest = tuple(number for number in everything if number not in group)
        if rest:
            parts.setdefault(rest, Effect(0.0, 0.0, 0.0))
    passages = own_answers(
        subject,
        measuring.neutral[: options.passages],
        decoding=Decoding(max_new_tokens=options.answer_tokens),
        progress=progress,
    )
    examples = measuring.pairs.development.about(circuit.direction)[: options.prompts]
    development = Development(
        subject, measuring.margin.pushed, examples, passages, circuit.direction, progress=progress
    )
    before = development.unsteered.margin
    steered = [Scale(_part(circuit, chosen), 1.0, force=force) for chosen in parts]
    trials = development.trials([1.0] * len(steered), steered)
    for chosen, trial in zip(tuple(parts), trials, strict=True):
        parts[chosen] = Effect(trial.margin - before, trial.divergence, trial.error)
    whole = parts[everything]
    return CircuitEffects(
        margin=measuring.margin.text,
        before=before,
        prompts=len(examples),
        tokens=sum(passage.scored for passage in passages),
        circuit=whole,
        neurons={channel: parts[channel,] for channel in shown},
        groups=tuple(_group(tuple(group), everything, parts, whole) for group in groups),
    )


def _group(
    group: tuple[int, ...], everything: tuple[int, ...], parts: dict[tuple[int, ...], Effect], whole: Effect
) -> GroupEffect:
    without = parts.get(tuple(number for number in everything if number not in group))
    left = 0.0 if without is None else without.margin
    return GroupEffect(group, parts[group], without, 1 - left / whole.margin if whole.margin else None)


def _part(circuit: Circuit, channels: Sequence[int]) -> Circuit:
    return Circuit.of(
        [circuit.rows[channel] for channel in channels], name=circuit.name, direction=circuit.direction,
        origin=circuit.origin,
    )  # fmt: skip
