"""Every number of a report: what it is called and what it means; how it is made stands in `condition_values`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
