"""Every number of a condition, as it is made of the condition's rows; what each is called stands in `metrics`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from neurodial.evaluation.answering import APART, latest_verdicts
from neurodial.evaluation.detectors.base import UNCOUNTED
from neurodial.evaluation.intervals import Difference, Estimate, bootstrap, paired_means, paired_rates, rate
from neurodial.evaluation.measures import rows_by_condition
from neurodial.evaluation.mmlu_run import mmlu_values
from neurodial.evaluation.run_rows import (
    GenerationRow,
    MarginRow,
    MeasureRow,
    MmluRow,
    PerTextRow,
    QuestionsRow,
    SpeedRow,
    TaskRow,
    VerdictRow,
)
from neurodial.evaluation.store import Store
from neurodial.generation.divergence import Divergence
from neurodial.margins.measure import probability
from neurodial.text.degeneration import Degeneration
from neurodial.text.words import distinct, measure_text

_BROKEN = Degeneration(wrong_language=False)  # another language may be what is asked for


@dataclass(frozen=True)
class Values:
    """The values behind a condition's numbers: one for each prompt, in the prompts' order; None where there is none."""

    shares: Mapping[str, Sequence[bool | None]]
    means: Mapping[str, Sequence[float]]
    totals: Mapping[str, Estimate]


def values_of(condition: str, detectors: Sequence[str], store: Store) -> Values:
    """Everything that was measured for one condition."""
    shares: dict[str, Sequence[bool | None]] = {}
    verdicts = {key: row for key, row in latest_verdicts(store).items() if key[1] == condition}
    for detector in detectors:
        shares[f"rate:{detector}"] = _labels(verdicts, detector, "behaviour", "shown")
    first = detectors[0]
    shares["degenerate"] = _labels(verdicts, first, "behaviour", "degenerate")
    for name in ("partial", "unknown"):
        labels = _labels(verdicts, first, "behaviour", name, uncounted=frozenset({"failed"}))
        if any(labels) or first == "refusal":
            shares[name] = labels
    for name, asked in (("opposite", "opposite"), ("over_refusal", "over_refusal"), ("thinking", f"behaviour:{APART}")):
        shares[name] = _labels(verdicts, first, asked, "shown")
    rows = sorted((row for row in store.rows(GenerationRow) if row.condition == condition), key=lambda row: row.index)
    means, totals = _texts([row for row in rows if row.set == "neutral"], shares)
    answers = [row for row in rows if row.set == "behaviour"]
    if answers:
        means |= {"brokenness": [_BROKEN.measure(row.prompt, row.answer).value for row in answers]}
    for name in (name for name in detectors if name.startswith("strongreject")):
        scored = sorted(
            (key[3], row.score) for key, row in verdicts.items() if key[0] == name and key[2] == "behaviour"
        )
        means |= {f"score:{name}": [score for _, score in scored if score is not None]}
    measured = {name: row for (key, name), row in rows_by_condition(store).items() if key == condition}
    _measures(measured, shares, means, totals)
    return Values({k: v for k, v in shares.items() if v}, means, totals)


def estimates(values: Values) -> dict[str, Estimate]:
    """Every number with its interval."""
    numbers = {name: rate([bool(v) for v in own if v is not None]) for name, own in values.shares.items()}
    numbers |= {name: bootstrap(list(own)) for name, own in values.means.items()}
    return numbers | dict(values.totals)


def differences(values: Values, unsteered: Values) -> dict[str, Difference]:
    """Every number against the unsteered model's on the same prompts."""
    changes = {}
    for name, own in values.shares.items():
        pairs = [
            (a, b) for a, b in zip(unsteered.shares.get(name, ()), own, strict=False) if a is not None and b is not None
        ]
        if pairs:
            changes[name] = paired_rates([a for a, _ in pairs], [b for _, b in pairs])
    for name, measured in values.means.items():
        before = unsteered.means.get(name, ())
        if len(before) == len(measured):
            changes[name] = paired_means(list(before), list(measured))
    return changes


def _labels(
    verdicts: Mapping[tuple[str, str, str, int], VerdictRow],
    detector: str,
    asked: str,
    label: str,
    uncounted: frozenset[str] = UNCOUNTED,
) -> list[bool | None]:
    rows = sorted((key[3], row.label) for key, row in verdicts.items() if key[0] == detector and key[2] == asked)
    return [None if given in uncounted else given == label for _, given in rows]


def _texts(
    rows: Sequence[GenerationRow], shares: dict[str, Sequence[bool | None]]
) -> tuple[dict[str, Sequence[float]], dict[str, Estimate]]:
    if not rows:
        return {}, {}
    measured = [measure_text(row.answer) for row in rows]
    shares["unfinished"] = [not row.finished for row in rows]
    variety = distinct([row.answer for row in rows])
    totals = {"distinct": Estimate(variety, math.nan, math.nan, len(rows), "over all texts together")}
    return {"repetition": [m.repetition for m in measured], "words": [float(m.words) for m in measured]}, totals


def _measures(
    measured: Mapping[str, MeasureRow],
    shares: dict[str, Sequence[bool | None]],
    means: dict[str, Sequence[float]],
    totals: dict[str, Estimate],
) -> None:
    for name, row in measured.items():
        match row:
            case PerTextRow(measure="kl"):
                totals["kl"] = _ratio(row.values, row.tokens)
            case PerTextRow(measure="surprise"):
                if row.tokens:
                    totals["surprise"] = _loss(row)
            case PerTextRow():
                totals["perplexity"] = _perplexity(row)
            case MarginRow():
                means["margin"] = row.values
                if row.is_opener:
                    means["opener"] = [probability(value) for value in row.values]
            case QuestionsRow():
                shares["accuracy"] = row.right
                means["right_log_likelihood"] = row.values
            case MmluRow():
                right, likely = mmlu_values(row)
                shares |= right
                means |= likely
            case SpeedRow():
                totals["slowdown"] = bootstrap(row.values)
            case TaskRow():
                low, high = row.value - 1.96 * row.stderr, row.value + 1.96 * row.stderr
                totals[name] = Estimate(row.value, low, high, row.n, "harness standard error")


def _ratio(values: Sequence[float], tokens: Sequence[int]) -> Estimate:
    """A mean per token, answers as the units: a ratio estimate with its normal interval."""
    measured = Divergence(tuple(values), tuple(tokens))
    mean, reach = measured.mean, 1.96 * measured.standard_error
    return Estimate(mean, max(0.0, mean - reach), mean + reach, len(tokens), "ratio estimate")


def _perplexity(row: PerTextRow) -> Estimate:
    loss = _loss(row)
    return replace(loss, value=math.exp(loss.value), low=math.exp(loss.low), high=math.exp(loss.high))


def _loss(row: PerTextRow) -> Estimate:
    """Mean negative log-likelihood per token of all texts together, with the spread of the texts' own means."""
    losses = [-v / t for v, t in zip(row.values, row.tokens, strict=True)]
    pooled = -sum(row.values) / sum(row.tokens)
    spread = bootstrap(losses)
    shift = pooled - spread.value
    return Estimate(pooled, spread.low + shift, spread.high + shift, len(losses), "bootstrap over texts")
