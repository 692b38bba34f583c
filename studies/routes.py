"""The ways to remove or induce a behaviour that a study compares, each as an intervention of adjustable strength.

Neurons: chosen by CNA (raw or standardised difference), by effect, by effect per cost (Dose; with or without those that
hold the behaviour down, which are turned up), or at random; dosed with zero, with one dose for all, in closed form, or
by their joint curvature. Vectors: activation addition, directional ablation. All are found from one seed's share of the
discovery prompts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from neurodial.attribution.cna import attribute
from neurodial.attribution.cost import Cost, Sampling, quadratic_cost
from neurodial.attribution.dose import Bounds, DosePath, Trade, closed_path, full_path, uniform_path
from neurodial.attribution.effect import effect, effect_scores
from neurodial.attribution.methods import CNA, Sign
from neurodial.attribution.select import strongest
from neurodial.circuit.circuit import Circuit, Direction
from neurodial.circuit.select import Count
from neurodial.evaluation.comparators.vectors import direction_vectors, last_token_vectors
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.intervention.vector import AddVector, ProjectOut
from neurodial.measurement.margin import Margin
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage
from neurodial.tuning.ways import BOUNDS

SELECTIONS = ("dose", "dose-both", "cna", "cna-standardised", "effect", "random")
BY_RATIO = ("dose", "dose-both")  # by effect against cost
DOSINGS = ("closed", "uniform", "full", "zero")
VECTORS = ("caa", "direction")
LARGEST_FULL = 200  # neurons; a joint curvature of more is not worth its time
TOGETHER = 8  # strengths that share a batch


@dataclass(frozen=True)
class Route:
    """A way to go.

    Attributes:
        low: the least strength worth measuring.
        high: the greatest.
        build: the intervention of a strength.
        details: what was chosen, as plain values.
    """

    low: float
    high: float
    build: Callable[[float], Intervention]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What routes are found from.

    Attributes:
        subject: the model, in float32.
        pairs: the behaviour, with this seed's share of the discovery prompts.
        margin: its margin.
        costing: neutral answers for the cost.
        costs: of every neuron.
        x_max: the largest dose.
        seed: of the share and of random neurons.
        direction: whether the behaviour is to go or to come.
    """

    subject: Subject
    pairs: PairSet
    margin: Margin
    costing: Sequence[Passage]
    costs: Cost
    x_max: float
    seed: int
    direction: Direction = "remove"

    def trade(self, selection: str) -> Trade:
        """Effect against cost: all selections but `dose-both` dose only what holds the behaviour up."""
        return self._trades["both" if selection == "dose-both" else "positive"]

    @cached_property
    def _trades(self) -> dict[Sign, Trade]:
        discovery = self.pairs.discovery
        about = discovery.positive if self.direction == "remove" else discovery.negative
        moments = effect(self.subject, self.margin, about)
        effects = effect_scores(moments, self.subject.sites)
        signs: tuple[Sign, ...] = ("positive", "both")
        return {sign: Trade.of(effects, self.costs.scores, sign=sign) for sign in signs}

    @cached_property
    def contrastive(self) -> dict[str, torch.Tensor]:
        """The magnitude of CNA's scores, universal neurons last."""
        found = {}
        for name, score in (("cna", "delta"), ("cna-standardised", "standardised")):
            result = attribute(self.subject, self.pairs.discovery, CNA(score=score, folds=0))
            kept = result.scores.flat().abs()
            kept[result.scores.places_of(list(result.universal))] = -1.0
            found[name] = kept
        return found

    def places(self, selection: str, count: int) -> list[int]:
        """Places of the neurons that a selection takes, best first."""
        if selection == "random":
            return random.Random(self.seed).sample(range(self.subject.neurons), count)
        trade = self.trade(selection)
        if selection in BY_RATIO:
            return trade.best(count)
        values = trade.effect if selection == "effect" else self.contrastive[selection]
        return [int(place) for place in strongest(values, count).tolist()]

    def neurons(self, selection: str, dosing: str, count: int) -> list[Route]:
        """A selection with a dosing.

        `zero` has one strength alone, multiplied by 0 (to induce, by 2); `uniform` neurons of either sign may have to
        go the other way, so they have two routes. The others have one for each bound of the doses.
        """
        bounds = Bounds(self.x_max, self.direction)
        if selection == "cna-reference":  # all its options are the public code's, the number of neurons too
            rows = list(attribute(self.subject, self.pairs.discovery, CNA.reference()).rows)
        else:
            places, trade = self.places(selection, count), self.trade(selection)
            rows = list(trade.rows(places, [1.0] * len(places)))
        if dosing == "zero":
            return [_scaled(DosePath(1.0, 1.0, uniform_path(rows, bounds).rows_at))]
        if dosing == "uniform":
            turned = (
                () if selection in {*BY_RATIO, "effect"} else (Bounds(self.x_max, "induce"),)
            )  # multiplied by up to 4
            return [_scaled(uniform_path(rows, each), {"direction": each.direction}) for each in (bounds, *turned)]
        smaller = [Bounds(self.x_max * share, self.direction) for share in BOUNDS]
        if dosing == "closed":
            among = None if selection in BY_RATIO else places
            paths = (closed_path(trade, Count(count), each, among=among) for each in smaller)
            return [_scaled(path, {"x_max": each.x_max}) for path, each in zip(paths, smaller, strict=True)]
        chosen = [row.neuron for row in rows]
        fisher = quadratic_cost(self.subject, self.costing, chosen, sampling=Sampling(4, self.seed))
        return [_scaled(full_path(trade, places, fisher, each), {"x_max": each.x_max}) for each in smaller]

    def vectors(self, name: str) -> list[Route]:
        """One route for each layer (and token, for directions) of a method of the residual stream."""
        discovery = self.pairs.discovery
        if name == "caa":
            vectors = last_token_vectors(self.subject, discovery)[0]
            away = -1.0 if self.direction == "remove" else 1.0
            return [_added(away * vectors[layer], layer) for layer in range(self.subject.layers)]
        return [_projected(vector, *place) for place, vector in direction_vectors(self.subject, discovery).items()]


def _scaled(path: DosePath, details: dict[str, Any] | None = None) -> Route:
    return Route(path.low, path.high, lambda strength: Scale(Circuit.of(path.rows_at(strength))), details or {})


def _added(vector: torch.Tensor, layer: int) -> Route:
    return Route(0.05, 4.0, lambda strength: AddVector(vector, layer, strength), {"layer": layer})


def _projected(vector: torch.Tensor, layer: int, offset: int) -> Route:
    details = {"layer": layer, "token": offset}
    return Route(0.02, 1.5, lambda strength: ProjectOut(vector, dial=strength), details)
