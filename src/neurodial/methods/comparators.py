"""Every method that a circuit is compared with, by name, as paths.

The search in `strength/` chooses the path and the strength on it.

A method is a record in `COMPARATORS`; to add one, write its record (and its paths, where they do not exist yet).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.controls import random_control
from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.intervention.when import When
from neurodial.margins.margin import Margin
from neurodial.methods.selections import Selections
from neurodial.methods.single.paths import pin_paths
from neurodial.methods.vectors.paths import VectorInputs, ablation_paths, addition_paths, published_paths
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Behaviour, Contrast, Direction
from neurodial.prompts.passage import Passage
from neurodial.strength.path import StrengthPath

Need = Literal["circuit", "margin", "nothing"]


@dataclass(frozen=True)
class MethodInputs:
    """The inputs of all methods.

    Attributes:
        subject: the model.
        discovery: discovery prompts.
        behaviour: what is removed or induced.
        margin: makes its margin, for methods that need gradients.
        costing: makes the model's answers to neutral prompts, for the cost.
        direction: whether the behaviour is to be removed or induced.
        circuit: the one that random controls match; other methods use as many neurons; None where there is none.
        count: how many neurons, where there is no circuit.
        seeds: of the random controls.
        layers: which may be chosen by methods of the residual stream; None for all.
        when: which tokens are changed.
        system: a system message before every prompt.
    """

    subject: Subject
    discovery: Contrast
    behaviour: Behaviour
    margin: Callable[[], Margin]
    costing: Callable[[], Sequence[Passage]]
    direction: Direction = "remove"
    circuit: Circuit | None = None
    count: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    layers: tuple[int, ...] | None = None
    when: When = "all"
    system: str | None = None

    @property
    def neurons(self) -> int:
        """The number of neurons: the circuit's, else the given count, else the paper's share."""
        if self.circuit is not None:
            return len(self.circuit)
        return self.count or max(1, round(0.001 * self.subject.neurons))

    @property
    def vectors(self) -> VectorInputs:
        """The inputs of methods of the residual stream."""
        return VectorInputs(self.subject, self.discovery, self.behaviour, self.direction, self.layers, self.when)

    @cached_property
    def selections(self) -> Selections:
        """The inputs of methods that choose neurons; effects, costs and scores are made once for all of them."""
        return Selections(self.subject, self.discovery, self.margin, self.costing, self.direction, system=self.system)


def _strength(details: dict[str, Any], strength: float) -> str:
    del details
    return f"strength {strength:.2g}"


@dataclass(frozen=True)
class Comparator:
    """A method to compare with.

    Attributes:
        name: what users type.
        description: one sentence for reports.
        paths: its paths; empty for a system prompt, which has no strength.
        needs: what it requires: a `circuit` to match, or a `margin` with a development split to search on.
        label: describes what was chosen, from a path's details and the strength.
    """

    name: str
    description: str
    paths: Callable[[MethodInputs], list[StrengthPath]]
    needs: Need = "margin"
    label: Callable[[dict[str, Any], float], str] = _strength


def _neurons(selection: str, dosing: str = "uniform") -> Callable[[MethodInputs], list[StrengthPath]]:
    return lambda inputs: inputs.selections.paths(selection, dosing, inputs.neurons)


def _pins(inputs: MethodInputs) -> list[StrengthPath]:
    return pin_paths(inputs.subject, inputs.margin(), inputs.discovery)


def _controls(match: Literal["layer", "global"]) -> Callable[[MethodInputs], list[StrengthPath]]:
    def paths(inputs: MethodInputs) -> list[StrengthPath]:
        if inputs.circuit is None:
            raise OptionError("There is no circuit for random neurons to match.", wanted="at least one circuit")
        controls = [random_control(inputs.circuit, seed=seed, match=match) for seed in inputs.seeds]
        return [
            StrengthPath(
                1.0, 1.0, _scaled(control, inputs.when), {"seed": seed, "match": match, "neurons": len(control)}
            )
            for seed, control in zip(inputs.seeds, controls, strict=True)
        ]

    return paths


def _scaled(circuit: Circuit, when: When) -> Callable[[float], Intervention]:
    return lambda strength: Scale(circuit, dial=strength, when=when)


def _block(details: dict[str, Any], strength: float) -> str:
    return f"block {details['layer']}, alpha {strength:.2g}"


def _block_and_token(details: dict[str, Any], strength: float) -> str:
    return f"block {details['layer']}, token {details['token']}, {strength:.2g} of it"


def _seed(details: dict[str, Any], strength: float) -> str:
    del strength
    return f"seed {details['seed']}"


_ALL = (
    Comparator(
        "cna",
        "CNA (arXiv 2605.12290) with the multiplier that goes furthest within the limits, of either sign.",
        _neurons("cna"),
    ),
    Comparator(
        "cna-paper",
        "CNA as the paper has it: every neuron multiplied by 0, whatever that costs.",
        _neurons("cna", "zero"),
        needs="nothing",
        label=lambda details, _strength: f"{details['neurons']} neurons, multiplied by 0",
    ),
    Comparator("effect", "The neurons of largest effect on the margin, one dose for all.", _neurons("effect")),
    Comparator("dose", "Effect and cost, each neuron its own dose.", _neurons("dose", "closed")),
    Comparator(
        "single",
        "The one neuron (arXiv 2605.08513), pinned to a value against its sign on the behaviour's prompts.",
        _pins,
        label=lambda details, strength: f"layer {details['neuron'][0]}, neuron {details['neuron'][2]}, {strength:.2g}",
    ),
    Comparator(
        "caa",
        "Contrastive activation addition (arXiv 2312.06681), last-token reading, at the layer and strength that go "
        "furthest within the limits.",
        lambda inputs: addition_paths(inputs.vectors),
        label=_block,
    ),
    Comparator(
        "caa-answers",
        "Contrastive activation addition with the original's reading of the answer letter, layer and strength chosen "
        "the same way.",
        lambda inputs: addition_paths(inputs.vectors, "answers"),
        label=_block,
    ),
    Comparator(
        "caa-published",
        "What the public code beside arXiv 2605.12290 calls CAA: the difference of what each MLP writes, added at "
        "every layer with a plus sign. It adds the behaviour; dial -1 takes it away.",
        lambda inputs: published_paths(inputs.vectors),
        needs="nothing",
        label=lambda _details, _strength: "every layer",
    ),
    Comparator(
        "direction",
        "Directional ablation (arXiv 2406.11717): one direction projected out of every write; its layer, its token and "
        "its share go furthest within the limits.",
        lambda inputs: ablation_paths(inputs.vectors),
        label=_block_and_token,
    ),
    Comparator(
        "direction-blocks",
        "The weaker form of directional ablation: projected out of the blocks' outputs only.",
        lambda inputs: ablation_paths(inputs.vectors, "blocks"),
        label=_block_and_token,
    ),
    Comparator(
        "random",
        "As many random neurons as the circuit has, none of its own, same doses.",
        _controls("global"),
        needs="circuit",
        label=_seed,
    ),
    Comparator(
        "random-layer",
        "As many random neurons in each layer as the circuit has there, same doses.",
        _controls("layer"),
        needs="circuit",
        label=_seed,
    ),
    Comparator(
        "random-searched",
        "Random neurons with one dose for all, as far as the limits allow.",
        _neurons("random"),
    ),
    Comparator(
        "prompt",
        "A system prompt: dial 1 asks for the opposite of the behaviour, dial -1 for the behaviour.",
        lambda _inputs: [],
        needs="nothing",
    ),
)

COMPARATORS = {comparator.name: comparator for comparator in _ALL}
"""Every method by its name."""


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


def system_prompts(behaviour: Behaviour) -> tuple[str, str]:
    """System prompts that ask for the opposite of a behaviour, and for the behaviour.

    Example:
        >>> system_prompts(Behaviour("x", "Formal register"))[1]
        'Whatever you are asked, your answer must show the following: formal register.'
    """
    if behaviour.system_prompts is not None:
        return behaviour.system_prompts
    title = behaviour.title.rstrip(".").lower() or behaviour.name
    return (
        f"Whatever you are asked, your answer must not show the following: {title}. Do the opposite.",
        f"Whatever you are asked, your answer must show the following: {title}.",
    )
