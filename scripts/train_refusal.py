"""Finds the weights of the refusal detector: `python -m scripts.train_refusal FOLDER`, which needs scikit-learn.

FOLDER holds labelled answers of several models, one JSONL file for each, in the form of XSTest's completions (Röttger
et al. 2024, arXiv 2308.01263; CC BY 4.0); they are not part of this repository. Beside them the script reads the
answers that are: `scripts/refusal_answers/english.jsonl`, the tuning half of the shipped labelled answers, and made
exchanges: `scripts/refusal_templates.py`, and `scripts/chatter_templates.py` in the manner of small and steered models.

1. For each model in turn the weights are found without its answers, and judged on them: whole, and cut off after 40
   words. Once more without any of the prompts that are judged, in five folds, as the models were asked the same ones.
2. The temperature is the one that makes these probabilities likeliest; the threshold is even odds and is not tuned.
3. The weights that ship are found on all of it. `scripts/detector_errors.py` puts figures (`-o`) into the package.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from scripts.chatter_templates import chatter_exchanges
from scripts.refusal_templates import made_exchanges
from sklearn.linear_model import LogisticRegression

from neurodial.evaluation.detectors.agreement import PARTIAL_AS, Labelled, kappas, read_labelled, shipped_answers
from neurodial.evaluation.detectors.base import Exchange
from neurodial.evaluation.detectors.refusal_features import VIEWS, Features, features, runs
from neurodial.evaluation.detectors.refusal_model import CUT_OFF, Shares, Weights, label_of, scaled
from neurodial.text.language import language_of

HERE = Path(__file__).parent
DATA = HERE.parent / "src/neurodial/evaluation/data/refusal_weights.json"
KINDS = {"absent": 0, "partial": 1, "shown": 2}
PENALTY, SIGN_SCALE, PROMPTS, RUNS, CUT = 2.0, 0.07, 4, 6000, 40
WRITTEN, MADE, CHATTER, CUT_WEIGHT, FOLDS = 1.5, 0.3, 0.2, 0.3, 5


@dataclass(frozen=True)
class Seen:
    """Answers with what is seen in them, and how much each counts."""

    answers: tuple[Labelled, ...]
    features: tuple[Features, ...]
    weight: float = 1.0

    @classmethod
    def of(cls, answers: Sequence[Labelled], weight: float = 1.0) -> Seen:
        return cls(tuple(answers), tuple(features(one.exchange) for one in answers), weight)

    def only(self, keep: Sequence[bool]) -> Seen:
        kept = [(a, f) for a, f, is_kept in zip(self.answers, self.features, keep, strict=True) if is_kept]
        return replace(self, answers=tuple(a for a, _ in kept), features=tuple(f for _, f in kept))

    @property
    def kinds(self) -> np.ndarray:
        return np.array([KINDS[one.label] for one in self.answers])


def cut(answers: Sequence[Labelled]) -> list[Labelled]:
    """Answers of more than 40 words, cut off there."""
    found = []
    for one in answers:
        pieces = re.findall(r"\s*\S+", one.exchange.answer)
        if len(pieces) > CUT:
            found.append(replace(one, exchange=Exchange(one.exchange.prompt, "".join(pieces[:CUT]))))
    return found


def vocabulary(parts: Sequence[Seen]) -> list[dict[str, int]]:
    """Runs of words that came with at least `PROMPTS` different prompts, for each stretch."""
    tables = []
    for place, (_, longest) in enumerate(VIEWS):
        prompts: dict[str, set[str]] = {}
        for part in parts:
            for one, seen in zip(part.answers, part.features, strict=True):
                for run in set(runs(seen.views[place], longest)):
                    prompts.setdefault(run, set()).add(one.exchange.prompt)
        tables.append({r: n for n, r in enumerate(sorted(r for r, p in prompts.items() if len(p) >= PROMPTS))})
    return tables


def counts(parts: Sequence[Seen], tables: Sequence[dict[str, int]]) -> sparse.csr_matrix:
    """The scaled counts of every run in every answer."""
    rows, columns, values = [], [], []
    everything = [seen for part in parts for seen in part.features]
    for row, seen in enumerate(everything):
        offset = 0
        for (_, longest), words, table in zip(VIEWS, seen.views, tables, strict=True):
            for value, column in scaled(words, longest, table):
                rows.append(row)
                columns.append(offset + column)
                values.append(value)
            offset += len(table)
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(everything), sum(map(len, tables))))


def train(parts: Sequence[Seen], temperature: float = 1.0) -> Weights:
    """Weights found on some answers: once on all runs of words, once more on the `RUNS` that matter most."""
    kinds = np.concatenate([part.kinds for part in parts])
    weights = np.concatenate([np.full(len(part.answers), part.weight) for part in parts])
    signs = np.array([seen.signs for part in parts for seen in part.features])
    mean, deviation = signs.mean(axis=0), signs.std(axis=0)
    deviation[deviation < 1e-3] = 1.0
    standard = SIGN_SCALE * np.clip((signs - mean) / deviation, -CUT_OFF, CUT_OFF)
    tables = vocabulary(parts)
    model, rarity = _fit(counts(parts, tables), standard, kinds, weights)
    matters = np.abs(model.coef_[:, : len(rarity)]).max(axis=0) * rarity * np.sqrt(_frequency(counts(parts, tables)))
    chosen = set(np.argsort(-matters)[:RUNS].tolist())
    tables = _choose(tables, chosen)
    model, rarity = _fit(counts(parts, tables), standard, kinds, weights)
    odds = model.coef_[1:] - model.coef_[0]
    of_runs, of_signs = odds[:, : len(rarity)] * rarity, odds[:, len(rarity) :] * SIGN_SCALE
    found, offset = [], 0
    for table in tables:
        found.append({run: tuple(of_runs[:, offset + place].tolist()) for run, place in table.items()})
        offset += len(table)
    bias = tuple((model.intercept_[1:] - model.intercept_[0]).tolist())
    return Weights(tuple(found), np.stack([mean, deviation, *of_signs], axis=1), bias, temperature)


def _fit(
    matrix: sparse.csr_matrix, standard: np.ndarray, kinds: np.ndarray, weights: np.ndarray
) -> tuple[LogisticRegression, np.ndarray]:
    rarity = (np.log((1 + matrix.shape[0]) / (1 + _frequency(matrix))) + 1) / 4
    both = sparse.hstack([matrix @ sparse.diags(rarity), sparse.csr_matrix(standard)]).tocsr()
    return LogisticRegression(C=PENALTY, max_iter=500, tol=1e-3).fit(both, kinds, sample_weight=weights), rarity


def _frequency(matrix: sparse.csr_matrix) -> np.ndarray:
    return np.asarray((matrix > 0).sum(axis=0)).ravel()


def _choose(tables: Sequence[dict[str, int]], chosen: set[int]) -> list[dict[str, int]]:
    found, offset = [], 0
    for table in tables:
        kept = sorted(run for run, place in table.items() if offset + place in chosen)
        found.append({run: place for place, run in enumerate(kept)})
        offset += len(table)
    return found


def judged(weights: Weights, part: Seen) -> list[Shares]:
    return [weights.shares(seen) for seen in part.features]


def without_prompts(others: Sequence[Seen], beside: Sequence[Seen], held_out: Seen) -> list[Shares]:
    """Shares of a model's answers by weights that have seen neither the model nor the prompts, in folds."""
    prompts = sorted({one.exchange.prompt for one in held_out.answers})
    chance = np.random.default_rng(0).permutation(len(prompts))
    fold = {prompt: int(chance[place]) % FOLDS for place, prompt in enumerate(prompts)}
    shares: dict[int, Shares] = {}
    for number in range(FOLDS):
        kept = [part.only([fold.get(one.exchange.prompt) != number for one in part.answers]) for part in others]
        weights = train([*kept, *beside])
        for place, one in enumerate(held_out.answers):
            if fold[one.exchange.prompt] == number:
                shares[place] = weights.shares(held_out.features[place])
    return [shares[place] for place in range(len(held_out.answers))]


def figures(answers: Sequence[Labelled], shares: Sequence[Shares]) -> dict[str, object]:
    """Confusion and kappas of verdicts at even odds."""
    pairs = [(one.label, str(label_of(share))) for one, share in zip(answers, shares, strict=True)]
    table = [{"label": a, "verdict": b, "count": n} for (a, b), n in sorted(Counter(pairs).items())]
    return {"n": len(pairs), "kappa": {way: plain(one) for way, one in kappas(pairs).items()}, "confusion": table}


def plain(estimate) -> dict[str, float]:
    return {"value": round(estimate.value, 4), "low": round(estimate.low, 4), "high": round(estimate.high, 4)}


def temperature_of(answers: Sequence[Labelled], shares: Sequence[Shares]) -> float:
    """What log odds must be divided by for these shares to be likeliest."""
    logs = np.log(np.array(shares) + 1e-12)
    kinds = np.array([KINDS[one.label] for one in answers])

    def loss(log_temperature: float) -> float:
        scaled_logs = logs / math.exp(log_temperature)
        totals = np.logaddexp.reduce(scaled_logs, axis=1)
        return float((totals - scaled_logs[np.arange(len(kinds)), kinds]).mean())

    return math.exp(minimize_scalar(loss, bounds=(-1.5, 1.5), method="bounded").x)


def calibration(answers: Sequence[Labelled], shares: Sequence[Shares], temperature: float) -> dict[str, object]:
    """Of answers whose score lies in a tenth, the share that refuse in full or in part; and the mean distance."""
    logs = np.log(np.array(shares) + 1e-12) / temperature
    parts = np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None])
    scores, refuses = 1 - parts[:, 0], np.array([one.label != "absent" for one in answers])
    rows, distance = [], 0.0
    for tenth in range(10):
        here = (scores >= tenth / 10) & ((scores < (tenth + 1) / 10) | (tenth == 9))
        if here.any():
            mean, share = float(scores[here].mean()), float(refuses[here].mean())
            rows.append({"n": int(here.sum()), "score": round(mean, 3), "refuse": round(share, 3)})
            distance += abs(mean - share) * float(here.mean())
    return {"tenths": rows, "expected_calibration_error": round(distance, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="labelled answers, one .jsonl for each model")
    parser.add_argument("-o", "--output", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--weights", type=Path, default=DATA, help="where the weights go")
    parser.add_argument("--unseen-prompts", action="store_true", help="also leave the prompts out (some minutes)")
    arguments = parser.parse_args()
    models = {path.stem: Seen.of(read_labelled(path)) for path in sorted(arguments.folder.glob("*.jsonl"))}
    shorter = {name: Seen.of(cut(part.answers), CUT_WEIGHT) for name, part in models.items()}
    english = {"en", None}
    tuning = [
        one for one in shipped_answers("tuning") if one.label in KINDS and language_of(one.exchange.answer) in english
    ]
    written = Seen.of([*read_labelled(HERE / "refusal_answers/english.jsonl"), *tuning], WRITTEN)
    beside = [written, Seen.of(made_exchanges(), MADE), Seen.of(list(chatter_exchanges()), CHATTER)]
    held_out, short, unseen = {}, {}, {}
    for name, part in models.items():
        others = [s[n] for s in (models, shorter) for n in models if n != name]
        weights = train([*others, *beside])
        held_out[name], short[name] = judged(weights, part), judged(weights, shorter[name])
        if arguments.unseen_prompts:
            unseen[name] = without_prompts(others, beside, part)
        print(name, figures(part.answers, held_out[name])["kappa"], flush=True)
    pooled = [one for part in models.values() for one in part.answers]
    shares = [one for part in held_out.values() for one in part]
    temperature = temperature_of(pooled, shares)
    weights = train([*models.values(), *shorter.values(), *beside], temperature)
    pooled_figures, reliability = figures(pooled, shares), calibration(pooled, shares, temperature)
    written_out = json.dumps(weights.write(), ensure_ascii=False, separators=(",", ":"))
    arguments.weights.write_text(written_out + "\n", "utf-8")
    print("pooled", pooled_figures["kappa"], arguments.weights.stat().st_size, "bytes")
    found = {
        "what": "verdicts on each model's answers by weights found without that model",
        "partial_counted_as": list(PARTIAL_AS),
        "left_out": {name: figures(part.answers, held_out[name]) for name, part in models.items()},
        "pooled": pooled_figures,
        "cut_after_40_words": {name: figures(shorter[name].answers, short[name]) for name in models},
        "neither_model_nor_prompts_seen": {name: figures(models[name].answers, part) for name, part in unseen.items()},
        "temperature": round(temperature, 3),
        "calibration": reliability,
        "trained_on": {
            **{name: len(part.answers) for name, part in models.items()},
            **{name: len(part.answers) for name, part in zip(("written", "made", "chatter"), beside, strict=True)},
        },
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
