"""A mixture of experts that routes for real, beside its dense twin: circuits, dials, controls, exports, its router.

1. How differently the experts are visited on the two sides: at the last token of each test prompt, by layer.
2. CNA and Dose find circuits of the same number of neurons on both models; each at several dials on the test split,
   beside random neurons, as many in each layer, or in each expert, with the same doses.
3. Dose's circuit is exported as weights and as a LoRA, loaded again, and compared with the hook on the test prompts.
4. At equal damage: neurons by Dose and by CNA, all neurons of the best experts, and a bias on the router's logits. What
   each does within a budget is searched on the development split and measured on the test split.

Run: python organisms/routed.py -o FOLDER && python studies/experts.py FOLDER -o docs/results/experts.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import router_bias
import torch
from torch import Tensor

import neurodial as nd
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.controls import Match, random_control
from neurodial.circuit.site import Site
from neurodial.evaluation.intervals import bootstrap, rate
from neurodial.export.export_circuit import export_circuit
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import Divergence, measure_divergence, own_answers
from neurodial.generation.generate import generate
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.margins.measure import measure_margins
from neurodial.methods.dose.inputs import DoseInputs, gather_inputs
from neurodial.methods.dose.options import Dose
from neurodial.methods.dose.paths import Bounds, uniform_path
from neurodial.methods.selections import Selections
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import prompt_text
from neurodial.provenance import versions
from neurodial.strength.choose_path import choose_path
from neurodial.strength.development import Development, PathSearch
from neurodial.strength.path import StrengthPath

COMMAND = "python organisms/routed.py -o FOLDER && python studies/experts.py FOLDER -o docs/results/experts.json"
DECODING = Decoding(max_new_tokens=12, batch_size=80)
DIALS = (-1.0, 0.5, 1.0, 1.5)
EXPERTS = (1, 2, 4)
BUDGETS = (0.01, 0.03, 0.1)
SHUFFLES = 2000


class Bench:
    """One model with its prompts, and what is measured on it."""

    def __init__(self, folder: Path, kind: str, arguments: argparse.Namespace) -> None:
        self.kind, self.arguments, self.source = kind, arguments, folder / kind
        self.subject = nd.load(str(self.source))
        self.pairs = PairSet.read(str(folder / "avoiding.toml"))
        self.neutral = str(folder / "neutral.jsonl")
        lines = (folder / "facts.jsonl").read_text(encoding="utf-8").splitlines()
        self.facts = {row["prompt"]: row["fact"] for row in map(json.loads, lines)}

    def dose(self, budget: float) -> Dose:
        """Dose's options for a budget."""
        return Dose(budget=budget, select=nd.Count(self.arguments.count), neutral=self.neutral, answer_tokens=12)

    @cached_property
    def inputs(self) -> DoseInputs:
        """Margin and neutral answers, as discovery gathers them."""
        return gather_inputs(self.subject, self.pairs, self.dose(0.03))

    @cached_property
    def development(self) -> Development:
        """What strengths are searched on."""
        return self.inputs.development(self.subject, self.pairs, self.dose(0.03))

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """The model's own answers to the neutral prompts of the test split."""
        return own_answers(self.subject, read_prompt_list(self.neutral).split("test"), decoding=DECODING)

    def margins(self, under: Intervention | None = None) -> list[float]:
        """Of the positive test prompts."""
        return measure_margins(self.subject, self.inputs.margin.pushed, self.pairs.test.positive, under=under)

    def row(
        self, way: str, under: Intervention | None, *, bias: Tensor | None = None, **details: Any
    ) -> dict[str, Any]:
        """A way's figures on the test split."""
        if bias is None:
            damage = None if under is None else measure_divergence(self.subject, self.passages, [under])[0]
            margins = self.margins(under)
        else:
            positive, pushed = self.pairs.test.positive, self.inputs.margin.pushed
            under_bias = router_bias.measured(self.subject, bias, pushed, positive, self.passages)
            damage, margins = under_bias.divergence, under_bias.margins
        with nullcontext() if bias is None else router_bias.biased(self.subject, bias):
            sides = {"": self.pairs.test.positive, "_others": self.pairs.test.negative}
            found = {side: self._answers(examples, under) for side, examples in sides.items()}
        estimates = {f"{name}{side}": rate(told) for side, tables in found.items() for name, told in tables.items()}
        estimates["margin"] = bootstrap(margins)
        figures = {name: _rounded(asdict(estimate)) for name, estimate in estimates.items()}
        value = {"model": self.kind, "way": way, **details, **figures, "damage": _damage(damage)}
        print(self.kind, way, details, {name: round(one.value, 2) for name, one in estimates.items()}, flush=True)
        return value

    def _answers(self, examples: Sequence[Any], under: Intervention | None) -> dict[str, list[bool]]:
        """Whether each answer refuses, names a value in the words of an answer, and names the true one."""
        answers = generate(self.subject, [example.prompt for example in examples], under=under, decoding=DECODING)
        facts = [self.facts[prompt_text(answer.prompt)].split() for answer in answers]
        texts = [answer.text.split() for answer in answers]
        values = {fact[3] for fact in map(str.split, self.facts.values())}
        in_form = [
            text[:3] == fact[:3] and text[4:] == fact[4:] and text[3] in values
            for text, fact in zip(texts, facts, strict=True)
        ]
        right = [text == fact for text, fact in zip(texts, facts, strict=True)]
        return {"refuses": [text[:1] == ["sorry"] for text in texts], "answers": in_form, "right": right}


def _damage(found: Divergence | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return _rounded(
        {"value": found.mean, "error": found.standard_error, "tokens": found.tokens, "n": len(found.scored)}
    )


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values.items()}


# ------------------------------------------------------------------------------------------------------ routing


def visits(subject: Subject, prompts: Sequence[Any]) -> dict[int, Tensor]:
    """For each layer, whether the last token of each prompt came to each expert, (prompt, expert)."""
    tables = {layer: torch.zeros(len(prompts), site.experts) for layer, site in subject.layout.experts}

    def keep(site: Site, values: Tensor, rows: tuple[int, ...]) -> None:
        if site.routed:
            tables[site.layer][list(rows)] = (values != 0).any(dim=-1).float()

    collect(subject, subject.render(prompts), Reading(Last()), keep)
    return tables


def routing(bench: Bench, seed: int) -> list[dict[str, Any]]:
    """Visits of each expert by side, and how far the two sides' shares of visits are apart, with a permutation test."""
    test = bench.pairs.test
    prompts = [example.prompt for example in (*test.positive, *test.negative)]
    is_positive = torch.tensor([True] * len(test.positive) + [False] * len(test.negative))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for layer, table in visits(bench.subject, prompts).items():
        apart = partial(_apart, table)
        chance = [apart(is_positive[torch.randperm(len(prompts), generator=generator)]) for _ in range(SHUFFLES)]
        observed = apart(is_positive)
        found.append(
            {
                "layer": layer,
                "positive": table[is_positive].sum(dim=0).int().tolist(),
                "negative": table[~is_positive].sum(dim=0).int().tolist(),
                "apart": round(observed, 3),
                "by_chance": round(fmean(chance), 3),
                "p": (1 + sum(value >= observed for value in chance)) / (1 + SHUFFLES),
                "n": len(prompts),
            }
        )
    return found


def _apart(table: Tensor, side: Tensor) -> float:
    """Half the sum of the differences between the two sides' shares of visits: 0 alike, 1 never the same expert."""
    shares = [table[rows].sum(dim=0) / table[rows].sum() for rows in (side, ~side)]
    return float((shares[0] - shares[1]).abs().sum()) / 2


# ---------------------------------------------------------------------------------------- circuits and controls


def circuits(bench: Bench) -> dict[str, Circuit]:
    """CNA's circuit and Dose's."""
    count = nd.Count(bench.arguments.count)
    budget = bench.arguments.budget
    return {
        "cna": nd.discover(bench.subject, bench.pairs, method=nd.CNA(universal=None, select=count)),
        "dose": nd.discover(bench.subject, bench.pairs, method=bench.dose(budget)),
    }


def dialled(bench: Bench, found: dict[str, Circuit]) -> list[dict[str, Any]]:
    """Every circuit at every dial, and random neurons at dial 1."""
    rows = [bench.row("unsteered", None)]
    for name, circuit in found.items():
        rows += [bench.row(name, Scale(circuit, dial=dial), dial=dial, neurons=len(circuit)) for dial in DIALS]
    matches: tuple[Match, ...] = ("layer", "visits") if bench.kind == "moe" else ("layer",)
    for match in matches:
        for seed in range(bench.arguments.seeds):
            control = random_control(found["dose"], seed=seed, match=match)
            rows.append(bench.row("random", Scale(control), dial=1.0, match=match, seed=seed, neurons=len(control)))
    return rows


def exports(bench: Bench, circuit: Circuit) -> list[dict[str, Any]]:
    """Each format, loaded again: how far its margins on the test prompts are from those of the hook."""
    plain, hook = (torch.tensor(bench.margins(under)) for under in (None, Scale(circuit)))
    found = []
    for route in ("weights", "lora"):
        with tempfile.TemporaryDirectory() as folder:
            made = export_circuit(bench.subject, Scale(circuit), route=route, output=Path(folder) / route)
            source = (made.folder,) if route == "weights" else (bench.source,)
            loaded = nd.load(str(source[0]), adapter=made.folder if route == "lora" else None)
            margin, positive = bench.inputs.margin.pushed, bench.pairs.test.positive
            margins = torch.tensor(measure_margins(loaded, margin, positive))
            found.append(
                _rounded(
                    {
                        "model": bench.kind, "route": route, "n": len(positive),
                        "difference": float((margins - hook).abs().max()), "effect": float((hook - plain).abs().max()),
                        "log_probability": max(check.difference for check in made.checks),
                    }
                )
            )  # fmt: skip
            print(found[-1], flush=True)
    return found


# ------------------------------------------------------------------------------------------------- equal damage


def at_equal_damage(bench: Bench) -> list[dict[str, Any]]:
    """What each way does within each budget."""
    inputs, arguments = bench.inputs, bench.arguments
    margin = inputs.margin.pushed
    selections = Selections(bench.subject, bench.pairs.discovery, lambda: margin, lambda: inputs.costing)
    ways: dict[str, list[StrengthPath]] = {
        "dose": [path for name in ("dose", "dose-both") for path in selections.paths(name, "closed", arguments.count)],
        "cna": selections.paths("cna", "uniform", arguments.count),
        "random": selections.paths("random", "uniform", arguments.count),
    }
    if bench.kind == "moe":
        ways["experts"] = whole_experts(bench, selections)
    rows = []
    searches = {way: [PathSearch(bench.development, path) for path in paths] for way, paths in ways.items()}
    for budget in arguments.budgets:
        for way, paths in searches.items():
            choice = choose_path(paths, bench.development.limits(budget, None), rounds=3, strict=False)
            rows.append(
                bench.row(way, choice.best.intervention, budget=budget, keeps=choice.within_limits,
                          development=float(f"{choice.best.divergence:.4g}"), chosen=dict(choice.path.path.details))
            )  # fmt: skip
    return rows + (router_rows(bench) if bench.kind == "moe" else [])


def whole_experts(bench: Bench, selections: Selections) -> list[StrengthPath]:
    """All neurons of the experts of largest summed effect, with one dose."""
    scores = selections.effects.margin
    sums = {
        (site, expert): float(scores[site][expert].sum())
        for site in scores
        if site.routed
        for expert in range(len(scores[site]))
    }
    best = sorted(sums, key=lambda one: -sums[one])
    paths = []
    for count in EXPERTS:
        chosen = best[:count]
        names = [f"layer {site.layer}, expert {expert}" for site, expert in chosen]
        rows = [
            Row(neuron, 0.0, 1.0)
            for neuron in bench.subject.everything.at(range(bench.subject.neurons))
            if (neuron.site, neuron.expert) in chosen
        ]
        paths.append(uniform_path(rows, Bounds(3.0)).scaled({"experts": names, "neurons": len(rows)}))
    return paths


def router_rows(bench: Bench) -> list[dict[str, Any]]:
    """The best bias on the router's logits within each budget."""
    subject, inputs = bench.subject, bench.inputs
    margin, development = inputs.margin.pushed, bench.development
    effect = router_bias.effects(subject, margin, inputs.about)
    cost = router_bias.costs(subject, inputs.costing)
    known: dict[bytes, router_bias.Measured] = {}

    def measure(bias: Tensor) -> router_bias.Measured:
        key = bias.numpy().tobytes()
        if key not in known:
            known[key] = router_bias.measured(subject, bias, margin, development.examples, development.passages)
        return known[key]

    rows = []
    for budget in bench.arguments.budgets:
        name, bias = router_bias.searched(router_bias.directions(effect, cost), measure, budget)
        damage = measure(bias).divergence.mean
        rows.append(
            bench.row("router", None, bias=bias, budget=budget, keeps=True, development=float(f"{damage:.4g}"),
                      chosen={"bias": name, "biases": int((bias != 0).sum()),
                              "largest": round(float(bias.abs().max()), 3)})
        )  # fmt: skip
    return rows


def study(folder: Path, kind: str, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The study of one model of a folder that `organisms/routed.py` wrote: parts of the result, as rows."""
    bench = Bench(folder, kind, arguments)
    trained = json.loads((folder / kind / "training.json").read_text(encoding="utf-8"))
    found = circuits(bench)
    return {
        "training": [{"model": kind, **trained}],
        "routing": [{"model": kind, **row} for row in routing(bench, seed=0)],
        "circuits": [
            {
                "model": kind,
                "way": name,
                "neurons": len(circuit),
                "of": bench.subject.neurons,
                "margin": bench.inputs.margin.text,
                "experts": len({(row.neuron.layer, row.neuron.expert) for row in circuit}),
                "visits": [list(row.visits) for row in circuit if row.visits is not None],
            }
            for name, circuit in found.items()
        ],
        "dials": dialled(bench, found),
        "exports": exports(bench, found["dose"]),
        "equal": at_equal_damage(bench),
    }


def merged(before: dict[str, Any], rows: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    """The result with one model's rows in the place of those it had."""
    return {
        **before,
        **{name: [row for row in before.get(name, []) if row["model"] != kind] + new for name, new in rows.items()},
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what organisms/routed.py wrote")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["moe", "dense"], choices=["moe", "dense"])
    parser.add_argument("--count", type=int, default=32, help="neurons of a circuit")
    parser.add_argument("--budget", type=float, default=0.03, help="of the circuit that is dialled, nats per token")
    parser.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=3, help="random circuits of each kind")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    settings = {name: getattr(arguments, name) for name in ("count", "budget", "budgets", "seeds")}
    about = {"command": COMMAND, "settings": settings, "versions": versions()}
    path = arguments.output
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else about
    if before["settings"] != settings:
        raise SystemExit(f"{path} was made with {before['settings']}: remove it, or use the same.")
    for kind in arguments.models:
        before = merged(before, study(arguments.folder, kind, arguments), kind) | about
        print(write_atomic(path, json.dumps(before) + "\n", overwrite=True))


if __name__ == "__main__":
    main()
