"""Neurons chosen by one rule and dosed by another, as paths: Dose, CNA with its multiplier, effect alone, random.

| selection | neurons |
|---|---|
| `dose` | of largest effect per cost that hold the behaviour up; `dose-both`: with those that hold it down, turned up |
| `cna`, `cna-standardised` | of largest difference of mean activations, raw or standardised, universal ones left out |
| `cna-reference` | as the public code chooses them |
| `effect` | of largest effect alone |
| `random` | anywhere |

| dosing | doses |
|---|---|
| `closed` | each its own, in closed form |
| `uniform` | one for all: the multiplier is one minus it |
| `zero` | the paper's: every neuron multiplied by 0 (to induce, by 2) |
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from neurodial.circuit.circuit import Row
from neurodial.circuit.selection import Count, strongest
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError
from neurodial.margins.margin import Margin
from neurodial.methods.base import Sign
from neurodial.methods.cna.attribute import attribute
from neurodial.methods.cna.options import CNA, Score
from neurodial.methods.dose.cost import Cost, Sampling, cost
from neurodial.methods.dose.effects import Effects, Mixture, effects_by_fold
from neurodial.methods.dose.paths import Bounds, DosePath, EffectCost, closed_path, uniform_path
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Contrast, Direction
from neurodial.prompts.passage import Passage
from neurodial.strength.path import StrengthPath

SELECTIONS = ("dose", "dose-both", "cna", "cna-standardised", "effect", "random")
BY_RATIO = ("dose", "dose-both")  # by effect against cost
CONTRASTIVE: dict[str, Score] = {"cna": "delta", "cna-standardised": "standardised"}
DOSINGS = ("closed", "uniform", "zero")


@dataclass(frozen=True, eq=False)
class Selections:
    """The inputs for choosing and dosing neurons; costly ones are computed when they are first needed.

    Attributes:
        subject: the model.
        discovery: discovery prompts.
        margin: makes the behaviour's margin.
        costing: makes the neutral answers for the cost.
        direction: whether the behaviour is to be removed or induced.
        x_max: the largest dose.
        sampling: of the labels that the cost is made with.
        seed: of random neurons.
        system: a system message before every prompt.
        known_costs: of every neuron, where they were made before.
    """

    subject: Subject
    discovery: Contrast
    margin: Callable[[], Margin]
    costing: Callable[[], Sequence[Passage]]
    direction: Direction = "remove"
    x_max: float = 3.0
    sampling: Sampling = Sampling()  # noqa: RUF009  # frozen
    seed: int = 0
    system: str | None = None
    known_costs: Cost | None = None
    _contrastive: dict[Score, Scores] = field(default_factory=dict, repr=False)

    @cached_property
    def costs(self) -> Cost:
        """The cost of every neuron; it does not depend on the behaviour."""
        return self.known_costs or cost(self.subject, self.costing(), sampling=self.sampling)

    @cached_property
    def effects(self) -> Effects:
        """The effect of every neuron, on the discovery prompts that the change is about."""
        about = self.discovery.about(self.direction)
        return effects_by_fold(self.subject, self.margin(), about, self.direction, system=self.system)([0])

    def effect_cost(self, selection: str, mixture: Mixture = "margin") -> EffectCost:
        """Effect against cost: all selections but `dose-both` dose only neurons that hold the behaviour up."""
        return self._effect_costs["both" if selection == "dose-both" else "positive", mixture]

    @cached_property
    def _effect_costs(self) -> dict[tuple[Sign, Mixture], EffectCost]:
        signs: tuple[Sign, ...] = ("positive", "both")
        return {
            (sign, mixture): EffectCost.of(self.effects.along(mixture), self.costs.scores, sign=sign)
            for sign, mixture in product(signs, self.effects.mixtures)
        }

    def contrastive(self, score: Score) -> Scores:
        """CNA's scores, universal neurons with 0."""
        if score not in self._contrastive:
            result = attribute(self.subject, self.discovery, CNA(score=score, folds=0, system=self.system))
            self._contrastive[score] = result.scores.without(result.universal)
        return self._contrastive[score]

    def rows(self, selection: str, count: int, mixture: Mixture = "margin") -> list[Row]:
        """The neurons of a selection, best first, each with dose 1."""
        if selection == "cna-reference":  # all its options are the public code's, also the number of neurons
            return list(attribute(self.subject, self.discovery, CNA.reference()).rows)
        if selection == "random":
            everything = self.subject.everything
            chosen = random.Random(self.seed).sample(range(everything.count), count)
            return [Row(neuron, 0.0, 1.0) for neuron in everything.at(chosen)]
        if selection in CONTRASTIVE:
            scores = self.contrastive(CONTRASTIVE[selection])
            places = strongest(scores.flat().abs(), count).tolist()
            values = scores.flat()[places].tolist()
            return [Row(*pair, 1.0) for pair in zip(scores.neurons_at(places), values, strict=True)]
        effect_cost = self.effect_cost(selection, mixture)
        places = self._places(effect_cost, selection, count)
        return list(effect_cost.rows(places, [1.0] * len(places)))

    def paths(self, selection: str, dosing: str, count: int) -> list[StrengthPath]:
        """A selection with a dosing: by effect, one path for each mixture of effects; else one.

        With one dose for all, neurons that are not chosen by their effect may need the opposite dose, so they have two
        paths.

        Raises:
            OptionError: no neuron can be used, or there is no such dosing.
        """
        by_effect = selection in {*BY_RATIO, "effect"}
        mixtures = self.effects.mixtures if by_effect and dosing != "zero" else ("margin",)
        return [path for mixture in mixtures for path in self._dosed(selection, dosing, count, mixture)]

    def _dosed(self, selection: str, dosing: str, count: int, mixture: Mixture) -> list[StrengthPath]:
        bounds = Bounds(self.x_max, self.direction)
        details: dict[str, Any] = {"neurons": count}
        if selection in {*BY_RATIO, "effect"}:
            details["follows"] = mixture
        if dosing == "closed":
            effect_cost = self.effect_cost(selection, mixture)
            among = None if selection in BY_RATIO else effect_cost.layout.places_of(self._neurons(selection, count))
            return [closed_path(effect_cost, Count(count), bounds, among=among).scaled(details)]
        rows = self.rows(selection, count, mixture)
        if dosing == "zero":
            return [DosePath(1.0, 1.0, uniform_path(rows, bounds).rows_at).scaled({**details, "neurons": len(rows)})]
        if dosing != "uniform":
            raise OptionError(f"There is no dosing {dosing!r}.", wanted=", ".join(DOSINGS))
        other_way = () if "follows" in details else (Bounds(self.x_max, "induce"),)  # multiplied by up to 1 + x_max
        return [uniform_path(rows, way).scaled({**details, "direction": way.direction}) for way in (bounds, *other_way)]

    def _neurons(self, selection: str, count: int) -> list[Neuron]:
        return [row.neuron for row in self.rows(selection, count)]

    def _places(self, effect_cost: EffectCost, selection: str, count: int) -> list[int]:
        if selection in BY_RATIO:
            return effect_cost.best(count)
        return [int(place) for place in strongest(effect_cost.effect, count).tolist()]
