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
from itertools import product
from typing import Any

import torch

from neurodial.circuit.circuit import Circuit, Direction
from neurodial.circuit.selection import Count
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.intervention.vector import AddVector, ProjectOut
from neurodial.margins.margin import Margin
from neurodial.methods.base import Sign
from neurodial.methods.choose import strongest
from neurodial.methods.cna.attribute import attribute
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.cost import Cost, Sampling, quadratic_cost
from neurodial.methods.dose.effects import Push, effects_by_fold
from neurodial.methods.dose.paths import Bounds, DosePath, Trade, closed_path, full_path, uniform_path
from neurodial.methods.vectors.differences import direction_vectors, last_token_vectors
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage

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

    def trade(self, selection: str, push: Push = "margin") -> Trade:
        """Effect against cost: all selections but `dose-both` dose only what holds the behaviour up."""
        return self._trades["both" if selection == "dose-both" else "positive", push]

    @property
    def pushes(self) -> list[Push]:
        """What doses can be pushed along."""
        return [push for sign, push in self._trades if sign == "both"]

    @cached_property
    def _trades(self) -> dict[tuple[Sign, Push], Trade]:
        discovery = self.pairs.discovery
        about = discovery.positive if self.direction == "remove" else discovery.negative
        effects = effects_by_fold(self.subject, self.margin, about, self.direction)([0])
        signs: tuple[Sign, ...] = ("positive", "both")
        return {
            (sign, push): Trade.of(effects.along(push), self.costs.scores, sign=sign)
            for sign, push in product(signs, effects.pushes)
        }

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

    def places(self, selection: str, count: int, push: Push = "margin") -> list[int]:
        """Places of the neurons that a selection takes, best first."""
        if selection == "random":
            return random.Random(self.seed).sample(range(self.subject.neurons), count)
        trade = self.trade(selection, push)
        if selection in BY_RATIO:
            return trade.best(count)
        values = trade.effect if selection == "effect" else self.contrastive[selection]
        return [int(place) for place in strongest(values, count).tolist()]

    def neurons(self, selection: str, dosing: str, count: int) -> list[Route]:
        """A selection with a dosing: by effect, one for each push; else one.

        `zero` has one strength alone, multiplied by 0 (to induce, by 2). Neurons that are not chosen by their effect
        may have to go the other way with one dose for all, so they have two routes.
        """
        pushes: Sequence[Push] = ("margin",)
        if selection in {*BY_RATIO, "effect"} and dosing in {"uniform", "closed"}:
            pushes = self.pushes
        return [route for push in pushes for route in self._dosed(selection, dosing, count, push)]

    def _dosed(self, selection: str, dosing: str, count: int, push: Push) -> list[Route]:
        bounds = Bounds(self.x_max, self.direction)
        if selection == "cna-reference":  # all its options are the public code's, the number of neurons too
            rows = list(attribute(self.subject, self.pairs.discovery, CNA.reference()).rows)
        else:
            places, trade = self.places(selection, count, push), self.trade(selection, push)
            rows = list(trade.rows(places, [1.0] * len(places)))
        details = {"push": push} if selection in {*BY_RATIO, "effect"} else {}
        if dosing == "zero":
            return [_scaled(DosePath(1.0, 1.0, uniform_path(rows, bounds).rows_at))]
        if dosing == "uniform":
            turned = () if details else (Bounds(self.x_max, "induce"),)  # multiplied by up to 4
            ways = (bounds, *turned)
            return [_scaled(uniform_path(rows, each), {"direction": each.direction, **details}) for each in ways]
        if dosing == "closed":
            among = None if selection in BY_RATIO else places
            return [_scaled(closed_path(trade, Count(count), bounds, among=among), details)]
        chosen = [row.neuron for row in rows]
        fisher = quadratic_cost(self.subject, self.costing, chosen, sampling=Sampling(4, self.seed))
        return [_scaled(full_path(trade, places, fisher, bounds))]

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
