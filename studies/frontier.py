"""Behaviour left against damage: selections crossed with dosings, and the other ways to remove a behaviour.

1. Material from the discovery split (a seeded share of it): openers, effect, cost, CNA's scores.
2. Each selection, number of neurons and dosing is dialled on the development split to each budget of damage.
3. What was found is measured on the test split: divergence on neutral answers, margins, and at one budget the
   behaviour's rate in generated answers, by the behaviour's own detector.

Every finished row is in rows.jsonl and is not computed again. The token bill comes first; --plan prints only that.

Run: python studies/frontier.py demo --behaviour refusal -o docs/results/refusal
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from neurodial.attribution.cna import attribute
from neurodial.attribution.cost import Sampling, cost, quadratic_cost
from neurodial.attribution.dose import Bounds, DosePath, Trade, closed_path, full_path, uniform_path
from neurodial.attribution.effect import effect, effect_scores
from neurodial.attribution.methods import CNA, Dose
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.select import Count
from neurodial.evaluation.comparators.methods import Comparison, comparators
from neurodial.evaluation.comparators.tuning import Bench
from neurodial.evaluation.detectors.base import Exchange
from neurodial.evaluation.detectors.registry import detector
from neurodial.evaluation.statistics import wilson
from neurodial.files import write_atomic
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.measurement.divergence import measure_divergence, own_answers
from neurodial.measurement.generate import generate
from neurodial.measurement.margin import measure_margins
from neurodial.measurement.options import Decoding
from neurodial.model.load import load
from neurodial.progress import silent
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Contrast, Example, PairSet, prompt_text
from neurodial.provenance import versions
from neurodial.tuning.material import gather
from neurodial.tuning.search import Goal, Trial, search

SELECTIONS = ("cna", "cna-standardised", "effect", "ratio", "random")
DOSINGS = ("zero", "uniform", "closed", "full")
LARGEST_FULL = 200  # neurons; a joint curvature of more is not worth its time


@dataclass(frozen=True, order=True)
class Key:
    """Which row: how neurons are chosen, how they are dosed, how many, for which budget, from which prompts."""

    selection: str
    dosing: str
    count: int
    budget: float
    seed: int


class Study:
    """One behaviour on one model, with one seed of discovery prompts."""

    def __init__(self, arguments: argparse.Namespace, subject: Any, seed: int) -> None:
        self.arguments, self.subject, self.seed = arguments, subject, seed
        whole = PairSet.read(arguments.behaviour)
        generator = random.Random(seed)
        sides = [self._share(side, generator) for side in (whole.discovery.positive, whole.discovery.negative)]
        tuning = whole.development
        if arguments.development:
            tuning = Contrast(tuning.positive[: arguments.development], tuning.negative[: arguments.development])
        self.pairs = PairSet(whole.behaviour, (Contrast(*sides), tuning, whole.test))
        self.known: dict[tuple[str, str, int], dict[float, Trial]] = {}
        self.options = Dose(x_max=arguments.x_max, draws=arguments.draws, seed=seed)

    def _share(self, side: tuple[Example, ...], generator: random.Random) -> tuple[Example, ...]:
        count = max(1, round(len(side) * self.arguments.share))
        return tuple(generator.sample(list(side), count))

    @cached_property
    def material(self) -> Any:
        found = gather(self.subject, self.pairs, self.options, margin=None, progress=silent)
        return replace(found, damage=found.damage[: self.arguments.development or None])

    @cached_property
    def trade(self) -> Trade:
        moments = effect(self.subject, self.material.margin, self.pairs.discovery.positive)
        costs = cost(self.subject, self.material.costing, sampling=Sampling(self.options.draws, self.seed))
        return Trade.of(effect_scores(moments, self.subject.sites), costs.scores)

    @cached_property
    def contrastive(self) -> dict[str, torch.Tensor]:
        found = {}
        for name, score in (("cna", "delta"), ("cna-standardised", "standardised")):
            method = CNA(score=score, folds=0)
            result = attribute(self.subject, self.pairs.discovery, method)
            kept = result.scores.flat().abs()
            places = [self._place(neuron) for neuron in result.universal]
            kept[places] = -1.0
            found[name] = kept
        return found

    def _place(self, neuron: Any) -> int:
        return sum(self.subject.widths[: neuron.layer]) + int(neuron.index)

    def places(self, selection: str, count: int) -> list[int]:
        """Places of the neurons that a selection takes."""
        if selection == "random":
            return random.Random(self.seed).sample(range(self.subject.neurons), count)
        values = {
            "effect": lambda: self.trade.effect,
            "ratio": lambda: self.trade.ratio,
        }.get(selection, lambda: self.contrastive[selection])()
        return [int(place) for place in values.sort(descending=True, stable=True).indices[:count]]

    def path(self, key: Key) -> DosePath:
        """The path of doses of a row."""
        bounds = Bounds(self.options.x_max)
        places = self.places(key.selection, key.count)
        rows = [self.trade.row(place, 1.0) for place in places]
        if key.dosing == "zero":
            return DosePath(1.0, 1.0, lambda strength: tuple(row._replace(dose=strength) for row in rows))
        if key.dosing == "uniform":
            return uniform_path(rows, bounds)
        if key.dosing == "closed":
            among = None if key.selection == "ratio" else places
            return closed_path(self.trade, Count(key.count), bounds, among=among)
        neurons = [row.neuron for row in rows]
        sampling = Sampling(4 * self.options.draws, self.seed)
        fisher = quadratic_cost(self.subject, self.material.costing, neurons, sampling=sampling)
        return full_path(self.trade, places, fisher, bounds)

    def development(self, key: Key, path: DosePath) -> Callable[[Any], list[Trial]]:
        """Measures strengths on the development split; those of another budget are not measured again."""
        about, _ = self.material.development
        known = self.known.setdefault((key.selection, key.dosing, key.count), {})

        def measure(strengths: Any) -> list[Trial]:
            fresh = [strength for strength in strengths if strength not in known]
            known.update((trial.strength, trial) for trial in measure_fresh(fresh))
            return [known[strength] for strength in strengths]

        def measure_fresh(strengths: Any) -> list[Trial]:
            if not strengths:
                return []
            rows = [path.rows_at(strength) for strength in strengths]
            scales = [Scale(Circuit.of(found)) for found in rows]
            divergences = measure_divergence(self.subject, self.material.damage, scales)
            under = [scale for scale in scales for _ in about]
            margins = measure_margins(self.subject, self.material.margin, list(about) * len(scales), under=under)
            means = [sum(margins[n * len(about) : (n + 1) * len(about)]) / len(about) for n in range(len(scales))]
            return [
                Trial(strength, found, divergence.mean, 0.0, mean)
                for strength, found, divergence, mean in zip(strengths, rows, divergences, means, strict=True)
            ]

        return measure

    def comparator(self, key: Key) -> tuple[Intervention, dict[str, Any]]:
        """Activation addition or directional ablation, chosen within the budget on the development split."""
        bench = Bench(
            self.subject,
            self.material.margin,
            self.material.development[0],
            self.material.damage,
            limit=key.budget,
        )
        comparison = Comparison(self.subject, self.pairs.discovery, self.pairs.behaviour, bench)
        [found] = comparators(key.selection, comparison)
        assert found.intervention is not None  # noqa: S101  # only a system prompt has none
        return found.intervention, found.details

    def find(self, key: Key) -> tuple[Intervention, dict[str, Any]]:
        """What a row puts on the model, and what is worth keeping about it."""
        if key.dosing == "-":
            return self.comparator(key)
        path = self.path(key)
        goal = Goal(None if key.dosing == "zero" else key.budget, None)
        best, trials = search(path.low, path.high, self.development(key, path), goal)
        doses = sorted(abs(row.dose) for row in best.rows)
        return Scale(Circuit.of(best.rows)), {
            "development": {"divergence": best.divergence, "margin": best.margin},
            "doses": {"mean": sum(doses) / len(doses), "largest": doses[-1]},
            "trials": [[trial.strength, trial.divergence, trial.margin] for trial in trials],
        }

    @cached_property
    def test(self) -> tuple[Any, list[Example], list[Example]]:
        neutral = list(read_prompt_list(self.options.neutral).split("test"))[: self.arguments.neutral]
        decoding = Decoding(max_new_tokens=self.options.answer_tokens, batch_size=32)
        test = self.pairs.test
        limit = self.arguments.prompts
        passages = own_answers(self.subject, neutral, decoding=decoding)
        return passages, list(test.positive[:limit]), list(test.negative[:limit])

    def measure(self, key: Key, intervention: Intervention | None) -> dict[str, Any]:
        """A row's numbers on the test split."""
        passages, positive, negative = self.test
        margins = [
            measure_margins(self.subject, self.material.margin, side, under=intervention)
            for side in (positive, negative)
        ]
        found: dict[str, Any] = {"margins": margins}
        if intervention is not None:
            [divergence] = measure_divergence(self.subject, passages, [intervention])
            found["divergence"] = divergence.mean
            found["divergence_standard_error"] = divergence.standard_error
            found["tokens"] = divergence.tokens
        if key.budget == self.arguments.generate:
            found |= self.rates(intervention, positive, negative)
        return found

    def rates(
        self, intervention: Intervention | None, positive: list[Example], negative: list[Example]
    ) -> dict[str, Any]:
        """How often generated answers show the behaviour."""
        examples = [*positive, *negative]
        decoding = Decoding(max_new_tokens=self.arguments.tokens, batch_size=32)
        prompts = [example.prompt for example in examples]
        answers = generate(self.subject, prompts, under=intervention, decoding=decoding)
        judge = detector(self.pairs.behaviour.detector)
        exchanges = [Exchange(prompt_text(answer.prompt), answer.text) for answer in answers]
        shown = [verdict.label == "shown" for verdict in judge.judge(exchanges)]
        sides = {"positive": shown[: len(positive)], "negative": shown[len(positive) :]}
        return {
            "shown": {side: [int(one) for one in each] for side, each in sides.items()},
            "rates": {side: asdict(wilson(sum(each), len(each))) for side, each in sides.items()},
            "answers": [answer.text for answer in answers],
        }


def keys(arguments: argparse.Namespace) -> Iterator[Key]:
    """Every row of the study, the unsteered model first."""
    for seed in arguments.seeds:
        yield Key("none", "-", 0, arguments.generate, seed)
        for budget in arguments.budgets:
            for method in arguments.against:
                yield Key(method, "-", 0, budget, seed)
            for count in arguments.counts:
                for selection in arguments.selections:
                    for dosing in arguments.dosings:
                        once = dosing == "zero" and budget != arguments.generate
                        if not once and not (dosing == "full" and count > LARGEST_FULL):
                            yield Key(selection, dosing, count, budget, seed)


def bill(arguments: argparse.Namespace, rows: list[Key]) -> str:
    """What the study will cost in tokens, before anything is loaded. Assumed: prompts of 40 tokens, run twice each."""
    prompt, answer = 40, Dose().answer_tokens
    pairs = PairSet.read(arguments.behaviour)
    neutral = read_prompt_list(Dose().neutral)
    development = len(neutral.split("development")) * (prompt + answer) + 2 * len(pairs.development.positive) * prompt
    test = arguments.neutral * (prompt + answer) + 2 * 2 * arguments.prompts * prompt
    tuned = [key for key in rows if key.dosing in {"uniform", "closed", "full"}]
    searched = 4 * len(tuned) + 6 * len({(key.selection, key.dosing, key.count, key.seed) for key in tuned})
    generated = sum(2 * arguments.prompts * (prompt + arguments.tokens) for k in rows if k.budget == arguments.generate)
    total = searched * development + len(rows) * test + generated
    return (
        f"{len(rows)} rows: {searched} trials of {development} tokens, {len(rows)} tests of {test}, "
        f"{generated} tokens generated or read for it: about {total / 1e6:.1f} million tokens"
    )


def main() -> None:
    arguments = parsed()
    rows = list(keys(arguments))
    print(bill(arguments, rows))
    if arguments.plan:
        return
    torch.set_num_threads(arguments.threads)
    target = arguments.output / "rows.jsonl"
    lines = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
    done = {Key(**json.loads(line)["key"]) for line in lines}
    subject = load(arguments.model, adapter=arguments.adapter)
    studies: dict[int, Study] = {}
    for number, key in enumerate(rows, start=1):
        if key in done:
            continue
        study = studies.setdefault(key.seed, Study(arguments, subject, key.seed))
        intervention, details = (None, {}) if key.selection == "none" else study.find(key)
        row = {"key": asdict(key), **details, "test": study.measure(key, intervention)}
        lines.append(json.dumps(row, ensure_ascii=False, default=str))
        write_atomic(target, "\n".join(lines) + "\n", overwrite=True)
        print(f"{number}/{len(rows)} {summary(key, row['test'])}", flush=True)
    about = {"arguments": vars(arguments), "versions": versions(), "model": asdict(subject.identity)}
    write_atomic(arguments.output / "study.json", json.dumps(about, default=str, indent=1) + "\n", overwrite=True)


def summary(key: Key, test: dict[str, Any]) -> str:
    """A row in one line."""
    margin = sum(test["margins"][0]) / len(test["margins"][0])
    rate = test.get("rates", {}).get("positive", {}).get("value")
    return (
        f"{key.selection} {key.dosing} {key.count} budget {key.budget} seed {key.seed}: "
        f"divergence {test.get('divergence', 0.0):.4f}, margin {margin:+.2f}"
        + ("" if rate is None else f", shown {rate:.2f}")
    )


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--selections", nargs="+", default=list(SELECTIONS), choices=SELECTIONS)
    parser.add_argument("--dosings", nargs="+", default=list(DOSINGS), choices=DOSINGS)
    parser.add_argument("--against", nargs="*", default=["caa", "direction"])
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 10, 46, 138, 461])
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--generate", type=float, default=0.05, help="the budget at which answers are generated")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.8, help="of the discovery prompts, for each seed")
    parser.add_argument("--development", type=int, default=0, help="development prompts of each kind; 0 for all")
    parser.add_argument("--prompts", type=int, default=100, help="test prompts of either side")
    parser.add_argument("--neutral", type=int, default=100, help="neutral test prompts")
    parser.add_argument("--tokens", type=int, default=64, help="longest generated answer")
    parser.add_argument("--x-max", type=float, default=3.0)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plan", action="store_true", help="print the token bill and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
