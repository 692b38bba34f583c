"""How near the closed form comes to what k neurons can do: closed form, fit, the limit, CNA's neurons with fit.

1. Closed form: Dose with neurons of either sign, along its path to each budget of damage.
2. Fit: the same neurons, their doses refined by gradient steps on the true margin and the measured damage.
3. The limit: neurons exchanged for any others of the model's, by iterative hard thresholding on the same objective.
   Each step takes the dose at which every neuron by itself would be best, `z = x - g / (p c)` with g the slope, c the
   cost and p the price of damage at the present doses, moves the chosen part of the way, and sets their length to the
   budget. Every third step those of least `c z^2` are exchanged for others of more: at first all, then half as many
   each time. The best of the way is kept; then the fit. What the fit of the closed form reaches stands for it where
   that is better.
4. CNA's neurons with closed-form doses, and with the fit.
Found on discovery prompts and neutral answers; strengths, early stops and budgets on the development split; every row
is measured on the test split. `share` is a row's part of the way from the unsteered margin to the limit's, on the test
split at the same budget. It is an upper bound found by search, not a proof.

A step costs two forward and two backward passes, over the discovery prompts and over the neutral answers; a measurement
two forward passes over the development split. Memory: one micro-batch, and two numbers for each neuron. Finished rows
stay in rows.jsonl, and finished steps beside them until the end: the same command goes on.

Run: python studies/limit.py demo --behaviour refusal -o docs/results/limit
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.circuit.circuit import Row
from neurodial.circuit.selection import Count
from neurodial.errors import BudgetError
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.scale import Scale
from neurodial.kept import keeping
from neurodial.margins.measure import measure_margins
from neurodial.methods.dose.dose_slopes import DoseSlopes
from neurodial.methods.dose.fit import Fitting, Slope, price_of
from neurodial.methods.dose.inputs import DoseInputs, gather_inputs
from neurodial.methods.dose.options import Dose
from neurodial.methods.dose.paths import Bounds, EffectCost, closed_path
from neurodial.methods.dose.refine import Refinement, scaled
from neurodial.methods.searched import DevelopmentSearch, rows_of
from neurodial.methods.selections import Selections
from neurodial.model.load import load
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.provenance import versions
from neurodial.strength.development import PathSearch
from neurodial.strength.limits import Limits, Trial

METHODS = ("closed", "fit", "limit", "cna", "cna-fit")
_EVERY = 3  # steps of the limit between two exchanges of neurons
_RATE = 0.5  # the part of the way that a step goes


@dataclass(frozen=True)
class Reach:
    """Where thresholding stands after a step."""

    margin: float
    divergence: float


def hard_threshold(
    start: Float[Tensor, "all"],
    cost: Float[Tensor, "all"],
    slopes: Callable[[Float[Tensor, "all"]], Slope],
    *,
    budget: float,
    sign: float,
    largest: float,
    steps: int,
    unsteered: float,
) -> tuple[Float[Tensor, "all"], list[Reach]]:
    """Doses of as many of all neurons as there are to begin with (step 3); the best of the way.

    Args:
        start: doses to begin with, most of them 0.
        cost: the damped cost of each neuron.
        slopes: margin and divergence under some doses, with their slopes in every dose.
        budget: nats per token.
        sign: 1 to lower the margin, -1 to raise it.
        largest: the largest dose, of either sign.
        steps: at each of which slopes are taken.
        unsteered: the margin without doses.
    """
    doses, way = start, []
    chosen = doses.nonzero()[:, 0]
    most, best = -math.inf, start
    for step in range(steps + 1):
        found = slopes(doses)
        way.append(Reach(found.margin, found.divergence))
        gain = sign * (unsteered - found.margin) * math.sqrt(budget / max(found.divergence, 1e-12))
        if gain > most:
            most, best = gain, doses
        at_chosen = Slope(found.margin, found.divergence, found.of_margin[chosen], found.of_divergence[chosen])
        price = price_of(at_chosen, budget=None, target=None, sign=sign).mu
        alone = doses - (sign * found.of_margin + price * found.of_divergence) / (price * cost)
        alone = alone.clamp(-largest, largest)
        if step % _EVERY == 0:
            chosen = exchanged(chosen, cost * alone.square(), max(1, len(chosen) >> step // _EVERY))
        is_new = doses[chosen] == 0
        moved = torch.where(is_new, alone[chosen], doses[chosen] + _RATE * (alone[chosen] - doses[chosen]))
        length = min(2.0, max(0.5, math.sqrt(budget / max(found.divergence, 1e-12))))
        doses = torch.zeros_like(alone).index_copy_(0, chosen, (length * moved).clamp(-largest, largest))
    return best, way


def exchanged(chosen: Int[Tensor, "chosen"], worth: Float[Tensor, "all"], most: int) -> Int[Tensor, "chosen"]:
    """The chosen places with at most so many of least worth exchanged for others of greater worth.

    Example:
        >>> exchanged(torch.tensor([0, 2]), torch.tensor([1.0, 9.0, 3.0, 2.0]), most=2).tolist()
        [2, 1]
    """
    outside = worth.clone()
    outside[chosen] = -math.inf
    candidates = outside.topk(min(most, len(chosen))).indices
    ranked = chosen[worth[chosen].argsort(descending=True)]
    least = ranked.flip(0)[: len(candidates)]
    better = worth[candidates] > worth[least]
    return torch.cat([ranked[: len(ranked) - int(better.sum())], candidates[better]])


class Study:
    """Everything that the rows share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.subject = load(arguments.model, adapter=arguments.adapter)
        self.pairs = PairSet.read(arguments.behaviour).first(arguments.discovery)
        self.options = Dose(
            direction=arguments.direction,
            x_max=arguments.x_max,
            draws=arguments.draws,
            passages=arguments.passages,
            neutral=arguments.neutral_prompts,
            answer_tokens=arguments.answer_tokens,
            folds=0,
        )
        self.known: dict[tuple[str, float], Trial] = {}

    @cached_property
    def inputs(self) -> DoseInputs:
        """Margin and neutral answers; the margin can measure the test split too."""
        inputs = gather_inputs(self.subject, self.pairs, self.options)
        self.test_margin = inputs.margin.for_prompts(self.subject, [self.pairs.test])
        return inputs

    @cached_property
    def searched(self) -> DevelopmentSearch:
        """The development split."""
        return DevelopmentSearch(self.subject, self.pairs, self.options, self.inputs)

    @cached_property
    def selections(self) -> Selections:
        """Effects, costs and CNA's neurons."""
        return Selections(
            self.subject,
            self.pairs.discovery,
            lambda: self.inputs.margin.pushed,
            lambda: self.inputs.costing,
            self.options.direction,
            self.options.x_max,
        )

    @property
    def effect_cost(self) -> EffectCost:
        """Of every neuron, of either sign."""
        return self.selections.effect_cost("dose-both")

    def limits(self, budget: float) -> Limits:
        """The limits at a budget."""
        return self.searched.development.limits(budget, None)

    def trial(self, method: str, budget: float) -> tuple[Trial, dict[str, Any]]:
        """What a method comes to at a budget, on the development split.

        Raises:
            BudgetError: even the smallest strength costs more.
        """
        limits = self.limits(budget)
        if method in {"closed", "cna"}:
            path = closed_path(self.effect_cost, Count(self.arguments.count), self._bounds, among=self._among(method))
            best, _ = PathSearch(self.searched.development, path.scaled()).best(limits)
            return best, {}
        before = self.best("cna" if method == "cna-fit" else "closed", budget)
        rows, details = rows_of(before.intervention), {}
        if method == "limit":
            rows, details = self._thresholded(rows, budget)
        fitting = Fitting(self.arguments.steps)
        refined = Refinement(self.searched, limits).fit(rows, fitting)
        details |= {"steps": refined.fitted.steps, "made": refined.fitted.made}
        if method == "limit":
            before = self.best("fit", budget)
            details["by_exchange"] = refined.taken(before, limits) is not before
        return refined.taken(before, limits), details

    def best(self, method: str, budget: float) -> Trial:
        """The trial of a method that another one begins with."""
        key = (method, budget)
        if key not in self.known:
            self.known[key], _ = self.trial(method, budget)
        return self.known[key]

    def measure(self, intervention: Scale | None) -> dict[str, Any]:
        """Margin and damage on the test split."""
        examples = self.pairs.test.about(self.options.direction)[: self.arguments.prompts]
        neutral = list(read_prompt_list(self.options.neutral).split("test"))[: self.arguments.neutral]
        passages = own_answers(self.subject, neutral, decoding=Decoding(max_new_tokens=self.options.answer_tokens))
        margins = measure_margins(self.subject, self.test_margin.pushed, examples, under=intervention)
        found: dict[str, Any] = {"margins": margins}
        if intervention is not None:
            [divergence] = measure_divergence(self.subject, passages, [intervention])
            found |= {"divergence": divergence.mean, "standard_error": divergence.standard_error}
        return found

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self.options.x_max, self.options.direction)

    def _among(self, method: str) -> list[int] | None:
        if method != "cna":
            return None
        rows = self.selections.rows("cna", self.arguments.count)
        return self.effect_cost.layout.places_of([row.neuron for row in rows])

    def _thresholded(self, rows: tuple[Row, ...], budget: float) -> tuple[tuple[Row, ...], dict[str, Any]]:
        layout, cost = self.effect_cost.layout, self.effect_cost.cost
        start = torch.zeros_like(cost)
        start[layout.places_of([row.neuron for row in rows])] = torch.tensor([row.dose for row in rows]).double()
        refinement = Refinement(self.searched, self.limits(budget))

        def rows_at(doses: Float[Tensor, "all"]) -> tuple[Row, ...]:
            places = doses.nonzero()[:, 0].tolist()
            pairs = zip(layout.neurons_at(places), doses[places].tolist(), strict=True)
            return tuple(Row(neuron, 0.0, dose) for neuron, dose in pairs)

        def slopes(doses: Float[Tensor, "all"]) -> Slope:
            own = rows_at(doses)
            found: DoseSlopes = refinement.slopes(scaled(own, torch.tensor([row.dose for row in own]).double()))
            return Slope(found.margin, found.divergence, found.of_margin.flat(), found.of_divergence.flat())

        [before] = self.searched.development.means(self.inputs.about, [None])
        doses, way = hard_threshold(
            start,
            cost,
            slopes,
            budget=budget,
            sign=1.0 if self.options.direction == "remove" else -1.0,
            largest=self.options.x_max,
            steps=self.arguments.limit_steps,
            unsteered=before[0],
        )
        kept = {row.neuron for row in rows_at(doses)} & {row.neuron for row in rows}
        return rows_at(doses), {"way": [asdict(reach) for reach in way], "of_closed": len(kept)}


def plan(arguments: argparse.Namespace) -> str:
    """What the study will cost, before anything is loaded."""
    steps = len(arguments.budgets) * (3 * arguments.steps + arguments.limit_steps)
    return (
        f"{1 + len(METHODS) * len(arguments.budgets)} rows, at most {steps} steps; each step is a forward and a "
        f"backward pass over {arguments.discovery} prompts with their openings and over {arguments.passages} neutral "
        "answers"
    )


def main() -> None:
    arguments = parsed()
    print(plan(arguments))
    if arguments.plan:
        return
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = arguments.output / "rows.jsonl"
    lines = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
    done = {(row["method"], row["budget"]) for row in map(json.loads, lines)}
    study = Study(arguments)
    about = {"arguments": vars(arguments), "versions": versions(), "model": asdict(study.subject.identity)}
    write_atomic(arguments.output / "study.json", json.dumps(about, default=str, indent=1) + "\n", overwrite=True)
    with keeping(arguments.output / "partial", study.subject.identity):
        study.inputs  # noqa: B018  # the margin for the test split comes with it
        wanted = [("none", 0.0), *((method, budget) for budget in arguments.budgets for method in METHODS)]
        for method, budget in wanted:
            if (method, budget) in done:
                continue
            lines.append(json.dumps(_row(study, method, budget)))
            write_atomic(target, "\n".join(lines) + "\n", overwrite=True)
            print(summary(json.loads(lines[-1])), flush=True)
    print("\n" + table([json.loads(line) for line in lines]))


def _row(study: Study, method: str, budget: float) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "budget": budget}
    if method == "none":
        return {**row, "test": study.measure(None)}
    try:
        best, details = study.trial(method, budget)
    except BudgetError as error:
        return {**row, "failed": error.problem}
    study.known[method, budget] = best
    intervention = best.intervention
    assert isinstance(intervention, Scale)  # noqa: S101  # what paths of doses give
    development = {"margin": best.margin, "divergence": best.divergence}
    return {**row, **details, "development": development, "test": study.measure(intervention)}


def summary(row: dict[str, Any]) -> str:
    """A row in one line."""
    name = f"{row['method']} at {row['budget']:g}: "
    if "failed" in row:
        return name + str(row["failed"])
    test = row["test"]
    return name + f"test margin {fmean(test['margins']):+.2f}, divergence {test.get('divergence', 0.0):.4f}"


def table(rows: list[dict[str, Any]]) -> str:
    """The frontier as a Markdown table: on the test split, with the share of the way to the limit."""
    measured = {(row["method"], row["budget"]): row["test"] for row in rows if "test" in row}
    before = fmean(measured["none", 0.0]["margins"]) if ("none", 0.0) in measured else None
    lines = ["| budget | method | margin | nats per token | share of the way |", "|---|---|---|---|---|"]
    for (method, budget), test in measured.items():
        if method == "none":
            continue
        margin, limit = fmean(test["margins"]), measured.get(("limit", budget))
        share = "–"
        if limit is not None and before is not None:
            share = f"{(margin - before) / (fmean(limit['margins']) - before):.0%}"
        damage = f"{test['divergence']:.4f} ± {test['standard_error']:.4f}"
        lines.append(f"| {budget:g} | {method} | {margin:+.2f} (n = {len(test['margins'])}) | {damage} | {share} |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--direction", choices=("remove", "induce"), default="remove")
    parser.add_argument("--count", type=int, default=46, help="neurons")
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.01, 0.03, 0.1])
    parser.add_argument("--steps", type=int, default=30, help="gradient steps of a fit, at most")
    parser.add_argument("--limit-steps", type=int, default=30, help="steps in which the limit's neurons are chosen")
    parser.add_argument("--discovery", type=int, default=60, help="prompts of each side of each split")
    parser.add_argument("--passages", type=int, default=16, help="neutral answers for the cost, and as many for damage")
    parser.add_argument("--prompts", type=int, default=100, help="test prompts")
    parser.add_argument("--neutral", type=int, default=32, help="neutral test prompts")
    parser.add_argument("--neutral-prompts", default=Dose.neutral, help="a shipped list, or a file with splits")
    parser.add_argument("--answer-tokens", type=int, default=Dose.answer_tokens, help="of a neutral answer, at most")
    parser.add_argument("--x-max", type=float, default=3.0)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plan", action="store_true", help="print what it costs and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
