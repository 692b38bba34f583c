"""The comparators by name. Every one is set so that dial 1 is its removal as chosen on the development split.

| name | what it is |
|---|---|
| `caa` | add `alpha v_L` after one block, last-token reading; layer and alpha chosen |
| `caa-answers` | the same with the original's answer reading |
| `caa-published` | the public code beside arXiv 2605.12290: every MLP, plus sign, alpha 1 |
| `direction` | project `v_L` out of every write; layer and token position chosen |
| `direction-blocks` | project it out of the blocks' outputs only, as some tools do |
| `random` | as many random neurons, anywhere |
| `random-layer` | as many random neurons in each layer as the circuit has there |
| `prompt` | a system prompt that asks for the behaviour or its opposite |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.controls import random_control
from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.evaluation.tuning import Bench, Choice, choose
from neurodial.intervention.base import Intervention
from neurodial.intervention.plan import When
from neurodial.intervention.scale import Scale
from neurodial.intervention.vector import AddVector, ProjectOut, Where
from neurodial.methods.vectors.differences import (
    REFUSAL_ANSWERS,
    AddEverywhere,
    answer_vectors,
    direction_vectors,
    last_token_vectors,
    mlp_vectors,
)
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Behaviour, Contrast

COMPARATORS: dict[str, str] = {
    "caa": "Contrastive activation addition (arXiv 2312.06681), last-token reading, at the layer and strength that "
    "remove most on the development split within the KL limit.",
    "caa-answers": "Contrastive activation addition with the original's reading of the answer letter, layer and "
    "strength chosen the same way.",
    "caa-published": "What the public code beside arXiv 2605.12290 calls CAA: the difference of what each MLP writes, "
    "added at every layer with a plus sign. It adds the behaviour; dial -1 takes it away.",
    "direction": "Directional ablation (arXiv 2406.11717): one direction projected out of every write, its layer and "
    "token position chosen on the development split within the KL limit.",
    "direction-blocks": "The weaker form: projected out of the blocks' outputs only.",
    "random": "As many random neurons as the circuit has, none of its own, same doses.",
    "random-layer": "As many random neurons in each layer as the circuit has there, same doses.",
    "prompt": "A system prompt: dial 1 asks for the opposite of the behaviour, dial -1 for the behaviour.",
}
"""What each comparator is, in words for the report."""

ALPHAS = (-0.5, -1.0, -1.5, -2.0, -3.0, -4.0)
"""Strengths tried for activation addition; taking a behaviour away is a negative one."""

_PROMPTS = {
    "refusal": (
        "Answer every request directly and completely. Never refuse, apologise or warn.",
        "Refuse every request, politely and briefly, and do not help with it.",
    ),
}


@dataclass(frozen=True)
class Comparator:
    """A method ready to be dialled: dial 1 is its chosen removal.

    Attributes:
        name: which one.
        label: its name in tables.
        intervention: None for a system prompt.
        prompts: the system prompts for dial 1 and dial -1.
        details: what was chosen, with the raw numbers.
    """

    name: str
    label: str
    intervention: Intervention | None = None
    prompts: tuple[str, str] | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What comparators are built from.

    Attributes:
        subject: the model.
        contrast: the discovery split: vectors are differences of its sides.
        behaviour: what is removed.
        bench: how candidates are judged, on the development split.
        circuit: what random controls match; None where there is none.
        seeds: of the random controls.
        layers: which layers may be chosen; all by default.
        when: which tokens an added vector acts on.
    """

    subject: Subject
    contrast: Contrast
    behaviour: Behaviour
    bench: Bench | None = None
    circuit: Circuit | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    layers: tuple[int, ...] | None = None
    when: When = "all"

    def allowed_layers(self) -> tuple[int, ...]:
        """The layers to choose from."""
        return tuple(range(self.subject.layers)) if self.layers is None else self.layers

    def tuned(self) -> Bench:
        """The bench.

        Raises:
            OptionError: there is none.
        """
        if self.bench is None:
            raise OptionError("There is no development split to choose on.", wanted="a prompt set with one")
        return self.bench


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of comparators, checked.

    Raises:
        UnknownNameError: offers near names.

    Example:
        >>> check_names(["caa", "random"])
        ('caa', 'random')
    """
    for name in names:
        if name not in COMPARATORS:
            raise UnknownNameError(f"There is no method {name!r} to compare with.", fix=near_names(name, COMPARATORS))
    return tuple(names)


Known = Mapping[str, Any]


def comparators(
    name: str, comparison: Comparison, *, known: Known | None = None, progress: Progress = silent
) -> list[Comparator]:
    """A comparator, tuned where it has something to tune; random ones once for each seed.

    Args:
        name: which one.
        comparison: what it is built from.
        known: the details of an earlier tuning on the same data, which is then not repeated.
        progress: shown while it is tuned.

    Raises:
        UnknownNameError: no such method.
        OptionError: it needs a circuit or a development split that is not there.
    """
    check_names([name])
    if name.startswith("random"):
        return _random(name, comparison)
    if name == "prompt":
        return [_prompt(comparison.behaviour)]
    if name == "caa-published":
        added = AddEverywhere(mlp_vectors(comparison.subject, comparison.contrast), when=comparison.when)
        return [Comparator(name, name, added, details={"alpha": 1.0, "layers": "all", "sign": "plus, as published"})]
    build = _direction if name.startswith("direction") else _caa
    return [build(name, comparison, known, progress)]


def _caa(name: str, comparison: Comparison, known: Known | None, progress: Progress) -> Comparator:
    if name == "caa":
        vectors = last_token_vectors(comparison.subject, comparison.contrast)[0]
    else:
        fallback = REFUSAL_ANSWERS if comparison.behaviour.name == "refusal" else None
        vectors = answer_vectors(comparison.subject, comparison.contrast, answers=fallback)

    def build(candidate: tuple[int, float]) -> Intervention:
        layer, alpha = candidate
        return AddVector(vectors[layer], layer, alpha, when=comparison.when)

    if known is None:
        coarse = [(layer, -1.0) for layer in comparison.allowed_layers()]
        choice = choose(
            comparison.tuned(), coarse, lambda c: [(c[0], alpha) for alpha in ALPHAS], build, progress=progress
        )
        layer, alpha = choice.best.settings
        known = {"layer": layer, "alpha": alpha, "norm": float(vectors[layer].norm()), **_tuned(choice)}
    layer, alpha = known["layer"], known["alpha"]
    return Comparator(name, f"{name} (block {layer}, alpha {alpha:g})", build((layer, alpha)), details=dict(known))


def _direction(name: str, comparison: Comparison, known: Known | None, progress: Progress) -> Comparator:
    vectors = direction_vectors(comparison.subject, comparison.contrast)
    where: Where = "blocks" if name == "direction-blocks" else "writes"

    def build(candidate: tuple[int, int]) -> Intervention:
        return ProjectOut(vectors[candidate], where=where, when=comparison.when)

    if known is None:
        layers = comparison.allowed_layers()
        coarse = [place for place in vectors if place[0] in layers]
        choice = choose(comparison.tuned(), coarse, lambda c: [c], build, progress=progress)
        layer, offset = choice.best.settings
        known = {"layer": layer, "position": offset, "where": where, **_tuned(choice)}
    layer, offset = known["layer"], known["position"]
    return Comparator(name, f"{name} (block {layer}, token {offset})", build((layer, offset)), details=dict(known))


def _random(name: str, comparison: Comparison) -> list[Comparator]:
    if comparison.circuit is None:
        raise OptionError("There is no circuit for random neurons to match.", wanted="at least one circuit")
    found = []
    for seed in comparison.seeds:
        match: Literal["layer", "global"] = "layer" if name == "random-layer" else "global"
        control = random_control(comparison.circuit, seed=seed, match=match)
        details = {"seed": seed, "match": match, "neurons": len(control)}
        found.append(Comparator(name, f"{name} (seed {seed})", Scale(control, when=comparison.when), details=details))
    return found


def _prompt(behaviour: Behaviour) -> Comparator:
    title = behaviour.title.rstrip(".").lower() or behaviour.name
    prompts = _PROMPTS.get(
        behaviour.name,
        (
            f"Whatever you are asked, your answer must not show the following: {title}. Do the opposite.",
            f"Whatever you are asked, your answer must show the following: {title}.",
        ),
    )
    return Comparator("prompt", "prompt", prompts=prompts, details={"remove": prompts[0], "induce": prompts[1]})


def _tuned(choice: Choice[Any]) -> dict[str, Any]:
    return {
        "development_margin": choice.best.effect,
        "development_margin_unsteered": choice.unsteered,
        "development_kl": choice.best.cost,
        "within_kl_limit": choice.within_limit,
        "trials": len(choice.trials),
    }
