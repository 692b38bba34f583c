"""Every number of a report: what it is called, what it means, and how it is made of a condition's rows."""

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


@dataclass(frozen=True)
class Metric:
    """A number of the report.

    Attributes:
        title: its heading.
        explanation: what it means and how it is made.
        is_share: a share of something, shown as per cent.
    """

    title: str
    explanation: str
    is_share: bool = False


METRICS: dict[str, Metric] = {
    "opposite": Metric(
        "shown on the other side",
        "The first detector's rate on the test prompts of the other side, where the behaviour is not wanted. A method "
        "that raises it has changed more than it was asked to.",
        is_share=True,
    ),
    "degenerate": Metric(
        "degenerate",
        "Answers on the behaviour's prompts that are empty, loop, are in the wrong language or are no language. They "
        "count as neither shown nor complied with.",
        is_share=True,
    ),
    "partial": Metric(
        "shown in part",
        "Answers on the behaviour's prompts that the first detector finds to show it in part, such as a "
        "refusal that goes on "
        "to help. They are in no other rate.",
        is_share=True,
    ),
    "unknown": Metric(
        "language not known",
        "Answers on the behaviour's prompts in a language that the first detector does not know. They count "
        "for nothing.",
        is_share=True,
    ),
    "brokenness": Metric(
        "brokenness",
        "How far the answers on the behaviour's prompts have broken down, mean over answers: 0 where nothing "
        "is amiss, 0.5 "
        "where a loop, a wrong language or gibberish reaches the limit from which an answer is degenerate, "
        "towards 1 beyond.",
    ),
    "over_refusal": Metric(
        "over-refusal",
        "Refusals on safe prompts that sound unsafe, test split of our own set. Lower is better.",
        is_share=True,
    ),
    "kl": Metric(
        "KL",
        "Nats per token: KL(unsteered || steered), teacher-forced over every token of the unsteered model's own "
        "answers to neutral test prompts. 0 is no change. The interval takes answers as the units.",
    ),
    "perplexity": Metric(
        "perplexity",
        "Of texts written by people (not by the model), under steering. Compare with the unsteered row: higher is "
        "worse. The interval is a bootstrap over the texts.",
    ),
    "surprise": Metric(
        "surprise",
        "How unlikely the steered answers to neutral prompts are to the unsteered model: its mean negative "
        "log-likelihood in nats per token. Fluent nonsense has more than the unsteered row, a loop less. The interval "
        "is a bootstrap over the answers.",
    ),
    "repetition": Metric(
        "repetition",
        "1 - unique / all word 4-grams of the steered answers to neutral prompts, mean over answers. 0: nothing "
        "repeats. Measured on the whole steered text.",
    ),
    "distinct": Metric("distinct-2", "Unique / all word pairs over all steered answers to neutral prompts together."),
    "words": Metric("words", "Mean length of the steered answers to neutral prompts, in words."),
    "unfinished": Metric(
        "cut off", "Share of answers to neutral prompts that reached the longest length without ending.", is_share=True
    ),
    "margin": Metric(
        "margin",
        "Mean behaviour margin on the test prompts in nats, teacher-forced: positive where the behaviour is likely.",
    ),
    "opener": Metric(
        "opening-token probability",
        "Mean probability that the answer begins the way the behaviour's answers begin; from the margin.",
        is_share=True,
    ),
    "accuracy": Metric(
        "multiple choice",
        "Share of our own questions answered rightly, choices scored by mean log-likelihood per token. Not MMLU.",
        is_share=True,
    ),
    "right_log_likelihood": Metric(
        "right answer",
        "Mean log-likelihood of the right choice in nats per token: it moves before accuracy does.",
    ),
    "mmlu": Metric(
        "MMLU",
        "Share of MMLU's questions answered rightly by letter, after development questions of the subject. The notes "
        "say how many, which, and whether the unsteered model is above chance.",
        is_share=True,
    ),
    "mmlu_right_letter": Metric(
        "MMLU, right letter",
        "Mean log-probability of the right letter in nats, over the whole vocabulary: it moves before accuracy does.",
    ),
    "mmlu_texts": Metric(
        "MMLU by whole answers",
        "Share of the questions where the right choice's text has the highest log-likelihood after `Question: … "
        "Answer:`. Choices are not shown, so a small model can do better than chance.",
        is_share=True,
    ),
    "mmlu_texts_per_character": Metric(
        "MMLU by whole answers, per character",
        "The same with each log-likelihood divided by its text's number of characters.",
        is_share=True,
    ),
    "mmlu_right_text": Metric(
        "MMLU, right answer's text", "Mean log-likelihood of the right choice's text in nats per token."
    ),
    "slowdown": Metric(
        "slowdown",
        "A steered forward pass over a plain one, taken in turns, mean of five with their bootstrap interval. 1: no "
        "cost.",
    ),
    "thinking": Metric(
        "shown while thinking", "The first detector's rate in the think blocks, scored apart.", is_share=True
    ),
}
"""Metrics by name. Rates of detectors are `rate:<detector>`, of harness tasks `task:<task>`; see `metric`."""


def metric(name: str, descriptions: Mapping[str, str] | None = None) -> Metric:
    """The heading and explanation of a metric.

    Example:
        >>> metric("rate:refusal", {"refusal": "Our rule."}).is_share
        True
    """
    kind, _, rest = name.partition(":")
    if kind == "rate":
        text = (descriptions or {}).get(rest, "")
        return Metric(rest, f"Share of answers to the behaviour's test prompts that show it. {text}", is_share=True)
    if kind == "score":
        text = (descriptions or {}).get(rest, "")
        return Metric(f"{rest} score", f"Mean score of the answers to the behaviour's test prompts. {text}")
    if kind == "task":
        return Metric(rest, f"lm-evaluation-harness task {rest} on the live steered model.", is_share=True)
    return METRICS[name]


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
        found = _labels(verdicts, first, "behaviour", name, uncounted=frozenset({"failed"}))
        if any(found) or first == "refusal":
            shares[name] = found
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
    found = {name: rate([bool(v) for v in own if v is not None]) for name, own in values.shares.items()}
    found |= {name: bootstrap(list(own)) for name, own in values.means.items()}
    return found | dict(values.totals)


def differences(values: Values, unsteered: Values) -> dict[str, Difference]:
    """Every number against the unsteered model's on the same prompts."""
    found = {}
    for name, own in values.shares.items():
        pairs = [
            (a, b) for a, b in zip(unsteered.shares.get(name, ()), own, strict=False) if a is not None and b is not None
        ]
        if pairs:
            found[name] = paired_rates([a for a, _ in pairs], [b for _, b in pairs])
    for name, measured in values.means.items():
        before = unsteered.means.get(name, ())
        if len(before) == len(measured):
            found[name] = paired_means(list(before), list(measured))
    return found


def _labels(
    verdicts: Mapping[tuple[str, str, str, int], VerdictRow],
    detector: str,
    asked: str,
    label: str,
    uncounted: frozenset[str] = UNCOUNTED,
) -> list[bool | None]:
    rows = sorted((key[3], row.label) for key, row in verdicts.items() if key[0] == detector and key[2] == asked)
    return [None if found in uncounted else found == label for _, found in rows]


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
