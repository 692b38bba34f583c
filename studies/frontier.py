"""Behaviour left, or induced, against damage: Dose, CNA, effect alone, random neurons, CAA, directional ablation.

1. Found in float32 from the discovery split, of which each seed takes its share: margin, effect, cost, scores, vectors.
2. Each method goes as far as each budget of damage allows, by measuring on the development split: the same line search
   for all. Methods of the residual stream also choose layer (and token) there, with the first seed; further seeds take
   that place with vectors of their own.
3. On the test split: divergence on neutral answers and margins for every row; at one budget also whole answers, by the
   behaviour's own detector. Measured in the --dtype given, as models are served.

Every finished row is in rows.jsonl (its answers in answers.jsonl) and is not computed again; study.json says what they
come from. The token bill comes first; --plan prints only that.

Run: python studies/frontier.py demo --behaviour refusal -o docs/results/behaviours/refusal
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import torch

from neurodial.errors import BudgetError, MarginError, OptionError
from neurodial.evaluation.detectors.base import Exchange, tally
from neurodial.evaluation.detectors.registry import detector, shows_of
from neurodial.evaluation.intervals import wilson
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.generation.generate import generate
from neurodial.intervention.base import Intervention
from neurodial.margins.measure import measure_margins
from neurodial.margins.own_answers import ANSWER_TOKENS
from neurodial.methods.dose.cost import Cost, Sampling, cost
from neurodial.methods.dose.inputs import DoseInputs, gather_inputs
from neurodial.methods.dose.options import Dose
from neurodial.methods.selections import BY_RATIO, DOSINGS, SELECTIONS, Selections
from neurodial.methods.single.find_neuron import SingleNeuron, single_neuron
from neurodial.methods.vectors.paths import VectorInputs, ablation_paths, addition_paths
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.answered import MarginKind
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example, prompt_text
from neurodial.provenance import versions
from neurodial.strength.choose_path import FirstLook, choose_path, finalists
from neurodial.strength.development import Development, PathSearch
from neurodial.strength.limits import Limits

VECTORS = ("caa", "direction")
ANSWERED = {
    *((method, "-") for method in ("none", "single", *VECTORS)),
    *((method, "uniform") for method in ("cna", "effect", "random")),
    *((method, "zero") for method in ("cna", "cna-reference")),
    *((method, "closed") for method in BY_RATIO),
}


@dataclass(frozen=True, order=True)
class Key:
    """Which row: the method, how its neurons are dosed, how many, for which budget, from which prompts."""

    method: str
    dosing: str
    count: int
    budget: float
    seed: int

    @property
    def way(self) -> tuple[str, str, int]:
        """What all budgets and seeds have in common."""
        return self.method, self.dosing, self.count


class Common:
    """What all seeds share: the models, the neutral answers, the cost, and the places chosen in the residual stream."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.pairs = PairSet.read(arguments.behaviour)
        self.exact = load(arguments.model, adapter=arguments.adapter)
        self.served: Subject = (
            self.exact
            if arguments.dtype == "float32"
            else load(arguments.model, adapter=arguments.adapter, dtype=arguments.dtype)
        )
        self.options = Dose(
            x_max=arguments.x_max,
            draws=arguments.draws,
            passages=arguments.passages,
            neutral=arguments.neutral_prompts,
            direction=arguments.direction,
            margin=arguments.margin,
            max_degenerate=arguments.max_degenerate,
            max_broken=arguments.max_broken,
        )
        self.places: dict[str, dict[str, Any]] = {}

    @cached_property
    def inputs(self) -> DoseInputs:
        """Margin and neutral answers, from the whole discovery split; the margin can measure the test split too."""
        inputs = gather_inputs(self.exact, self.pairs, self.options, shows=shows_of(self.pairs.behaviour))
        return replace(inputs, margin=inputs.margin.for_prompts(self.exact, [self.pairs.test]))

    @cached_property
    def costs(self) -> Cost:
        """Of every neuron; it knows nothing of the behaviour."""
        return cost(self.exact, self.inputs.costing, sampling=Sampling(self.options.draws, 0))

    @cached_property
    def development(self) -> Development:
        """What strengths are searched on."""
        whole = self.inputs.development(self.served, self.pairs, self.options)
        return replace(whole, examples=whole.examples[: self.arguments.development])

    @cached_property
    def test(self) -> tuple[tuple[Passage, ...], list[Example]]:
        """Neutral answers, and the prompts that the change is about."""
        neutral = list(read_prompt_list(self.options.neutral).split("test"))[: self.arguments.neutral]
        decoding = Decoding(max_new_tokens=self.options.answer_tokens)
        passages = own_answers(self.served, neutral, decoding=decoding)
        return tuple(passages), list(self.pairs.test.about(self.options.direction)[: self.arguments.prompts])


class Seed:
    """The study from one seed's share of the discovery prompts."""

    def __init__(self, common: Common, seed: int) -> None:
        self.common, self.seed = common, seed
        generator = random.Random(seed)
        whole = common.pairs.discovery
        share = [
            tuple(generator.sample(list(side), max(1, round(len(side) * common.arguments.share))))
            for side in (whole.positive, whole.negative)
        ]
        self.pairs = replace(common.pairs, splits=(Contrast(*share), *common.pairs.splits[1:]))
        options, margin = common.options, common.inputs.margin.pushed
        self.margin = margin
        self.selections = Selections(
            common.exact,
            self.pairs.discovery,
            lambda: margin,
            lambda: common.inputs.costing,
            options.direction,
            options.x_max,
            seed=seed,
            known_costs=common.costs,
        )
        self.searches: dict[tuple[str, str, int], list[PathSearch]] = {}

    def paths(self, key: Key) -> list[PathSearch]:
        """The paths of a row, with what was measured along them for other budgets: one, or the finalists of many."""
        if key.way not in self.searches:
            self.searches[key.way] = self._paths(key)
        return self.searches[key.way]

    def _paths(self, key: Key) -> list[PathSearch]:
        development = self.common.development
        if key.method not in VECTORS:
            paths = self.selections.paths(key.method, key.dosing, key.count)
            return [PathSearch(development, path) for path in paths]
        pairs = self.pairs
        inputs = VectorInputs(self.common.exact, pairs.discovery, pairs.behaviour, self.common.options.direction)
        paths = addition_paths(inputs) if key.method == "caa" else ablation_paths(inputs)
        place = self.common.places.get(key.method)
        if place:
            paths = [path for path in paths if all(path.details[name] == value for name, value in place.items())]
        look = FirstLook(self.common.arguments.coarse)
        return finalists(development, [PathSearch(development, path) for path in paths], look)

    def find(self, key: Key) -> tuple[Intervention, dict[str, Any]]:
        """What a row puts on the model, and what is worth keeping about it.

        Raises:
            BudgetError: even the smallest strength costs more than the budget.
            MarginError: no neuron can be looked for by how answers begin.
            OptionError: the model has too few layers or neurons for the public code's options.
        """
        if key.method == "single":
            single = single_neuron(self.common.exact, self.pairs, method=SingleNeuron(margin="alternatives"))
            return single.best.pin, {"neuron": list(single.best.candidate.neuron), "value": single.best.value}
        development = self.common.development
        # What keeps to no budget is as it was published, within no limit.
        limits = development.limits(key.budget, None) if key.budget else Limits(None, None, development.direction)
        choice = choose_path(self.paths(key), limits, rounds=FirstLook.rounds)
        best, path = choice.best, choice.path.path
        if key.method in VECTORS and key.budget == self.common.arguments.generate:
            self.common.places.setdefault(key.method, place_of(path.details))
        details = {"strength": best.strength, "margin": best.margin, "divergence": best.divergence, **path.details}
        if limits.least_reference is not None:
            details["reference"] = best.reference
        if best.degenerate is not None:
            details |= {"degenerate": best.degenerate, "broken": best.broken}
        return path.at(best.strength), {"development": details}

    def measure(self, key: Key, intervention: Intervention | None) -> dict[str, Any]:
        """A row's numbers on the test split."""
        passages, examples = self.common.test
        served, margin = self.common.served, self.margin
        found: dict[str, Any] = {"margins": measure_margins(served, margin, examples, under=intervention)}
        if intervention is not None:
            [divergence] = measure_divergence(served, passages, [intervention])
            found |= {"divergence": divergence.mean, "standard_error": divergence.standard_error}
            found["tokens"] = divergence.tokens
        if is_answered(key, self.common.arguments):
            found |= self.rates(intervention, examples)
        return found

    def rates(self, intervention: Intervention | None, examples: list[Example]) -> dict[str, Any]:
        """How often generated answers show the behaviour, or are no answers."""
        decoding = Decoding(max_new_tokens=self.common.arguments.tokens, batch_size=52)
        prompts = [example.prompt for example in examples]
        answers = generate(self.common.served, prompts, under=intervention, decoding=decoding)
        verdicts = detector(self.common.pairs.behaviour.detector).judge(
            [Exchange(prompt_text(answer.prompt), answer.text) for answer in answers]
        )
        counts = tally(verdicts)
        shown = wilson(counts["shown"], len(verdicts))
        labels = [verdict.label for verdict in verdicts]
        return {"shown": asdict(shown), "labels": labels, "answers": [answer.text for answer in answers]}


def place_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """The layer, and the token, that a method of the residual stream chose."""
    return {name: details[name] for name in ("layer", "token") if name in details}


def is_answered(key: Key, arguments: argparse.Namespace) -> bool:
    """Whether a row is answered with: at one budget, and of sparsity and of the credit table nothing."""
    counts = {0, arguments.count} if key.method in {*BY_RATIO, "cna"} else {key.count}
    return key.budget in (0, arguments.generate) and (key.method, key.dosing) in ANSWERED and key.count in counts


def keys(arguments: argparse.Namespace) -> Iterator[Key]:
    """Every row of the study, what matters most first."""
    main, largest = arguments.count, arguments.generate
    first, vectors = arguments.seeds[0], _vectors(arguments)
    yield Key("none", "-", 0, 0.0, first)
    for seed in arguments.seeds:
        for method in BY_RATIO:
            yield Key(method, "closed", main, largest, seed)
        yield Key("cna", "zero", main, 0.0, seed)
        for method in vectors:
            yield Key(method, "-", 0, largest, seed)
        if seed == first and not arguments.main:
            yield from _once(arguments, first)
    for seed in arguments.seeds if arguments.credit else ():
        for method in SELECTIONS:
            for dosing in DOSINGS:
                yield Key(method, dosing, main, 0.0 if dosing == "zero" else largest, seed)


def _once(arguments: argparse.Namespace, seed: int) -> Iterator[Key]:
    """Rows of one seed alone: further methods and budgets, sparsity."""
    main, largest = arguments.count, arguments.generate
    for method in ("cna", "effect", "random"):
        yield Key(method, "uniform", main, largest, seed)
    for budget in arguments.budgets:
        for method in BY_RATIO:
            yield Key(method, "closed", main, budget, seed)
        for method in _vectors(arguments):
            yield Key(method, "-", 0, budget, seed)
    for count in arguments.counts:
        for method in BY_RATIO:
            yield Key(method, "closed", count, largest, seed)
        yield Key("cna", "zero", count, 0.0, seed)
    if arguments.direction == "remove":
        yield Key("single", "-", 1, 0.0, seed)
    yield Key("cna-reference", "zero", 1600, 0.0, seed)


def _vectors(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Ablating a direction takes a behaviour away; it induces none."""
    return VECTORS if arguments.direction == "remove" else ("caa",)


def token_plan(arguments: argparse.Namespace, rows: Sequence[Key]) -> str:
    """What the study will cost in tokens, before anything is loaded.

    Assumed: prompts of 40 tokens, 9 trials a way, two rows a prompt; of the model's own answers where the margin is
    theirs, which also tries three pushes. Where broken answers are limited, a way's best trial is answered with.
    """
    prompt, answer = 40, Dose().answer_tokens
    by_own_answers = arguments.margin == "own-answers"
    row_tokens = prompt + (ANSWER_TOKENS if by_own_answers else 0)
    trial = arguments.passages * (prompt + answer) + 2 * arguments.development * row_tokens
    test = arguments.neutral * (prompt + answer) + 2 * arguments.prompts * row_tokens
    searched = {(row.way, row.seed) for row in rows if row.budget}
    ways = sum(3 if by_own_answers and way[0] in BY_RATIO else 1 for way, _ in searched)
    answered = sum(is_answered(row, arguments) for row in rows)
    generated = answered * arguments.prompts * (prompt + arguments.tokens)
    if arguments.max_degenerate is not None or arguments.max_broken is not None:
        generated += ways * arguments.development * (prompt + answer)
    total = 9 * ways * trial + len(rows) * test + generated
    return (
        f"{len(rows)} rows: {9 * ways} trials of {trial} tokens, {len(rows)} tests of {test}, "
        f"{generated} tokens generated or read for it: about {total / 1e6:.1f} million tokens"
    )


def main() -> None:
    arguments = parsed()
    PairSet.read(arguments.behaviour), read_prompt_list(arguments.neutral_prompts)  # says now if they are not there
    rows = list(dict.fromkeys(keys(arguments)))
    print(token_plan(arguments, rows))
    if arguments.plan:
        return
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = arguments.output / "rows.jsonl"
    lines = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
    done = {Key(**row["key"]): row for row in map(json.loads, lines)}
    common, seeds = Common(arguments), {}
    if len(done) < len(rows):
        describe(arguments, common)
    for row in done.values():  # places chosen before an interruption
        key = row["key"]
        if key["method"] in VECTORS and key["budget"] == arguments.generate and "development" in row:
            common.places.setdefault(key["method"], place_of(row["development"]))
    for number, key in enumerate(rows, start=1):
        if key in done:
            continue
        study = seeds.setdefault(key.seed, Seed(common, key.seed))
        row = {"key": asdict(key)}
        try:
            intervention, details = (None, {}) if key.method == "none" else study.find(key)
            row |= {**details, "test": study.measure(key, intervention)}
        except (BudgetError, MarginError, OptionError) as error:
            row["failed"] = str(error)
        texts = row.get("test", {}).pop("answers", None)
        if texts is not None:
            with (arguments.output / "answers.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": asdict(key), "answers": texts}, ensure_ascii=False) + "\n")
        lines.append(json.dumps(row, ensure_ascii=False, default=str))
        write_atomic(target, "\n".join(lines) + "\n", overwrite=True)
        print(f"{number}/{len(rows)} {summary(key, row)}", flush=True)


def describe(arguments: argparse.Namespace, common: Common) -> None:
    """What the rows come from, in study.json."""
    about = {
        "arguments": vars(arguments),
        "versions": versions(),
        "model": asdict(common.exact.identity),
        "material": {**common.inputs.report(), "neutral": asdict(common.inputs.neutral)},
    }
    write_atomic(arguments.output / "study.json", json.dumps(about, default=str, indent=1) + "\n", overwrite=True)


def summary(key: Key, row: dict[str, Any]) -> str:
    """A row in one line."""
    name = f"{key.method} {key.dosing} {key.count} budget {key.budget:g} seed {key.seed}: "
    if "test" not in row:
        return name + row["failed"][:80]
    test = row["test"]
    text = f"divergence {test.get('divergence', 0.0):.4f}, margin {fmean(test['margins']):+.2f}"
    return name + text + (f", shown {test['shown']['value']:.2f}" if "shown" in test else "")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--direction", choices=("remove", "induce"), default="remove")
    parser.add_argument("--margin", choices=get_args(MarginKind), default="behaviour", help="what is pushed")
    parser.add_argument("--max-degenerate", type=float, help="more broken answers on development prompts, as a share")
    parser.add_argument("--max-broken", type=float, help="greater mean brokenness of answers on development prompts")
    parser.add_argument("--dtype", default="bfloat16", help="what is measured in; everything is found in float32")
    parser.add_argument("--count", type=int, default=46, help="neurons of the main rows")
    parser.add_argument("--counts", nargs="*", type=int, default=[1, 10, 461], help="further numbers of neurons")
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.03, 0.1, 0.3])
    parser.add_argument("--generate", type=float, default=0.1, help="the budget at which answers are generated")
    parser.add_argument("--main", action="store_true", help="the main methods alone, at the budget of the answers")
    parser.add_argument("--credit", action="store_true", help="every selection with every dosing, for every seed")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.8, help="of the discovery prompts, for each seed")
    parser.add_argument("--development", type=int, default=16, help="development prompts")
    parser.add_argument("--coarse", type=int, default=6, help="of them, for the first look at layers and tokens")
    parser.add_argument("--passages", type=int, default=16, help="neutral answers for the cost, and as many for damage")
    parser.add_argument("--prompts", type=int, default=100, help="test prompts")
    parser.add_argument("--neutral", type=int, default=32, help="neutral test prompts")
    parser.add_argument("--neutral-prompts", default=Dose.neutral, help="a shipped list, or a file with splits")
    parser.add_argument("--tokens", type=int, default=40, help="longest generated answer")
    parser.add_argument("--x-max", type=float, default=3.0)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plan", action="store_true", help="print the token bill and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
