"""The verdict is made by rules from the numbers: each rule moves it."""

from dataclasses import replace

import pytest

from neurodial.evaluation.intervals import Difference, Estimate, paired_means, paired_rates, rate
from neurodial.evaluation.results import ConditionResult, PairedComparison, Report
from neurodial.evaluation.verdict import best_condition, shown_change, verdict

N = 40
PLAIN = [number < 32 for number in range(N)]


def condition(label, left, *, kl=0.02, dial=1.0, method="circuit", broken=0):
    steered = [number < left for number in range(N)]
    whole = [False] * N
    damaged = [number < broken for number in range(N)]
    metrics = {"rate:refusal": rate(steered), "degenerate": rate(damaged)}
    if kl is not None:
        metrics["kl"] = Estimate(kl, kl / 2, 2 * kl, 8, "ratio estimate")
    changes = {"rate:refusal": paired_rates(PLAIN, steered), "degenerate": paired_rates(whole, damaged)}
    return ConditionResult(method, label, dial, {}, metrics, changes)


def report_of(*conditions, comparisons=(), settings=None):
    unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {"rate:refusal": rate(PLAIN)}, {})
    return Report(
        "refusal", {"refusal": "A rule."}, (unsteered, *conditions), settings=settings or {}, comparisons=comparisons
    )


def against(first, second, left, other):
    change = paired_rates([n < other for n in range(N)], [n < left for n in range(N)])
    return PairedComparison(f"{first} @ 1", f"{second} @ 1", change)


def test_the_furthest_within_the_limit_of_damage_is_the_best():
    both = (condition("mild", 20), condition("strong", 4), condition("dear", 0, kl=0.5))
    assert best_condition(report_of(*both)).condition.label == "strong"
    assert best_condition(report_of(*both, settings={"kl_limit": 1.0})).condition.label == "dear"
    assert (
        best_condition(report_of(condition("dear", 0, kl=0.5), condition("dearer", 0, kl=2.0))).condition.label
        == "dear"
    )


def test_one_sentence_says_change_cost_and_chance():
    assert verdict(report_of(condition("mine", 4))) == (
        "mine at dial 1 lowers refusal from 80 % to 10 %, beyond chance, at a cost of 0.02 nats per token."
    )
    assert "does not change refusal beyond chance (80 % to 78 %)" in verdict(report_of(condition("mine", 31))).replace(
        "from ", ""
    )
    assert "raises refusal from 80 % to 100 %" in verdict(report_of(condition("mine", 40)))
    assert "above the limit of 0.1" in verdict(report_of(condition("mine", 4, kl=0.5)))
    assert ", and 30 % of its answers are broken" in verdict(report_of(condition("mine", 4, broken=12)))
    assert "cost" not in verdict(report_of(condition("mine", 4, kl=None)))


def test_dial_1_counts_and_not_the_dial_that_looks_best():
    found = best_condition(report_of(condition("mine", 20), condition("mine", 0, dial=2.0)))
    assert found.condition.dial == 1
    assert best_condition(report_of(condition("mine", 20, dial=0.5))).condition.dial == 0.5
    assert best_condition(report_of(condition("mine", 20, dial=-1.0))) is None


def test_circuits_come_before_other_methods_and_controls_are_never_the_best():
    others = (condition("caa (block 3)", 0, method="caa"), condition("random (seed 0)", 0, method="random"))
    found = best_condition(report_of(condition("mine", 20), *others))
    assert found.condition.label == "mine"
    assert found.rival.condition.label == "caa (block 3)"
    assert found.control.condition.label == "random (seed 0)"
    assert best_condition(report_of(*others)).condition.label == "caa (block 3)"
    assert best_condition(report_of(condition("mine", 20), condition("46 random neurons", 0))).condition.label == "mine"


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (4, "less than the strongest other method, caa: 50 %, −40 points ["),
        (19, "no clear difference from the strongest other method, caa: 50 %, −2 points ["),
        (30, "more than the strongest other method, caa: 50 %, +25 points ["),
    ],
)
def test_the_strongest_other_method_is_compared_on_the_same_prompts(left, words):
    conditions = (condition("mine", left), condition("caa", 20, method="caa"))
    assert words in verdict(report_of(*conditions, comparisons=(against("caa", "mine", left, 20),)))
    turned = replace(against("mine", "caa", 20, left))
    assert words in verdict(report_of(*conditions, comparisons=(turned,)))
    assert "the strongest other method, caa, comes to 50 %" in verdict(report_of(*conditions))


def test_another_method_past_the_limit_says_so():
    said = verdict(report_of(condition("mine", 4), condition("caa", 0, kl=0.5, method="caa")))
    assert "the other method, caa (past the limit, at 0.5 nats per token), comes to 0 %" in said


def test_without_answers_the_opening_or_the_margin_stands_in():
    def number(name, before, after):
        change = paired_means(before, after)
        means = {name: Estimate(sum(after) / len(after), min(after), max(after), len(after), "bootstrap")}
        plain = {name: Estimate(sum(before) / len(before), min(before), max(before), len(before), "bootstrap")}
        unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, plain, {})
        mine = ConditionResult("circuit", "mine", 1.0, {}, means, {name: change})
        return verdict(Report("refusal", {"refusal": ""}, (unsteered, mine)))

    assert "lowers the probability that an answer opens as refusal does from 80 % to 20 %, beyond chance" in number(
        "opener", [0.8] * 6, [0.2] * 6
    )
    assert "lowers the margin from 2 nats to -1 nats" in number("margin", [2.0] * 6, [-1.0] * 6)


def test_a_change_in_words_has_its_unit():
    change = Difference(Estimate(-0.5, -1.0, 0.25, 9, "bootstrap"), None, 0, 0)
    assert shown_change(change, "margin") == "−0.5 nats [−1, +0.25]"
    assert shown_change(change, "words") == "−0.5 [−1, +0.25]"
    assert shown_change(change, "rate:x") == "−50 points [−100, +25]"
