"""What an export does to each neuron, and the rank that it takes as an adapter.

1. Doses of several circuits on one neuron add: `m_j = 1 - sum_c d_c x_cj`.
2. Where all circuits have the same dial d, the doses are kept at dial 1 and d becomes the default strength, so that
   an engine's strength turns the dial. Where the dials differ they go into the doses, and the strength is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import CircuitError, ExportError, OptionError
from neurodial.intervention.scale import Scale, check_fits
from neurodial.model.subject import Subject


@dataclass(frozen=True)
class Recipe:
    """Doses at strength 1 and the default strength: neuron j is multiplied by `1 - strength * dose_j`.

    Attributes:
        doses: for each layer whose dense MLP is touched, the dose of each neuron by its index.
        strength: the default strength.
        is_one_dial: whether strength 1 is every circuit's dial 1.
        routed: for each layer whose routed experts are touched, the dose of each neuron by (expert, index).

    Example:
        >>> Recipe({0: {3: 1.0, 7: 0.5}, 4: {1: 2.0}}, strength=0.5).rank
        2
    """

    doses: Mapping[int, Mapping[int, float]]
    strength: float = 1.0
    is_one_dial: bool = True
    routed: Mapping[int, Mapping[tuple[int, int], float]] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The largest number of neurons in one dense MLP or one expert: the rank of the adapter."""
        counts = [len(doses) for doses in self.doses.values()]
        for doses in self.routed.values():
            counts += Counter(expert for expert, _ in doses).values()
        return max(counts)

    @property
    def counts(self) -> dict[int, int]:
        """Number of neurons in each layer that is touched."""
        layers = sorted({*self.doses, *self.routed})
        return {layer: len(self.doses.get(layer, ())) + len(self.routed.get(layer, ())) for layer in layers}

    @property
    def sites(self) -> tuple[Site, ...]:
        """The dense MLPs that are touched, in order."""
        return tuple(Site(layer) for layer in sorted(self.doses))

    def routed_multipliers(self, layer: int) -> dict[tuple[int, int], float]:
        """What each neuron (expert, index) of a layer is multiplied by, at the default strength."""
        return {place: 1 - self.strength * dose for place, dose in self.routed[layer].items()}

    def multipliers(self, layer: int) -> dict[int, float]:
        """What each neuron of a layer is multiplied by, at the default strength."""
        return {index: 1 - self.strength * dose for index, dose in self.doses[layer].items()}


def recipe_of(subject: Subject, scales: Sequence[Scale]) -> Recipe:
    """The recipe of circuits at their dials, for one model.

    Raises:
        OptionError: a dial is 0 or a list, or acts on the prompt or the answer only.
        ModelMismatchError: a circuit was made on another model.
        CircuitError: no neuron is left to scale.
    """
    if not scales:
        raise CircuitError("No circuit came.", wanted="at least one")
    for scale in scales:
        _check(scale)
        check_fits(scale.circuit, subject, force=scale.force)
    dials = [float(scale.dial) for scale in scales]  # type: ignore[arg-type]  # lists are refused above
    is_one = len(set(dials)) == 1
    doses: dict[Neuron, float] = {}
    for scale, dial in zip(scales, dials, strict=True):
        for row in scale.circuit:
            doses[row.neuron] = doses.get(row.neuron, 0.0) + row.dose * (1.0 if is_one else dial)
    dense: dict[int, dict[int, float]] = {}
    routed: dict[int, dict[tuple[int, int], float]] = {}
    for neuron in sorted((neuron for neuron, dose in doses.items() if dose != 0), key=lambda neuron: neuron.order):
        if neuron.expert is None:
            dense.setdefault(neuron.layer, {})[neuron.index] = doses[neuron]
        else:
            routed.setdefault(neuron.layer, {})[neuron.expert, neuron.index] = doses[neuron]
    if not dense and not routed:
        raise CircuitError("Every neuron's dose is zero.", wanted="a circuit that changes the model")
    return Recipe(dense, dials[0] if is_one else 1.0, is_one, routed)


def refuse_condition(circuit: Circuit, since: str) -> None:
    """Refuse to write a circuit with a condition into files that would act without it.

    Raises:
        ExportError: names the condition, and what serves it.
    """
    if circuit.condition is None:
        return
    raise ExportError(
        f"The circuit {circuit.name!r} acts only on prompts on which a condition holds ({circuit.condition.text}).",
        wanted=f"a circuit without a condition: {since}",
        fix="Serve it instead (neurodial serve decides for each request), or leave the condition out "
        "(neurodial export --condition none).",
    )


def _check(scale: Scale) -> None:
    if not isinstance(scale.dial, int | float):
        raise OptionError("A list of dials came.", wanted="one dial: files hold one strength")
    if scale.dial == 0:
        raise OptionError(
            "The dial is 0, which is the unsteered model.",
            wanted="another dial",
            fix="Write an adapter at dial 1: an engine's strength then turns the dial, 0 included.",
        )
    refuse_condition(scale.circuit, "weights and adapters act on every prompt")
    if scale.when != "all":
        raise ExportError(f"The circuit acts on the {scale.when} tokens only.", wanted="`when` all: weights act on all")
