"""Studies on tiny models: what is on the grid, what a frontier's number is, and where circuits sit by chance."""

from dataclasses import replace

import pytest

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.selection import Count
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError
from neurodial.evaluation import baselines as methods
from neurodial.evaluation.frontier_area import frontier_figures
from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.evaluation.protocol import paper
from neurodial.evaluation.results import ConditionResult, Report
from neurodial.evaluation.studies import (
    Grid,
    frontier,
    layers,
    sweep,
    token_plan,
    transfer,
)
from neurodial.generation.decoding import Decoding
from neurodial.methods.cna.options import CNA
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.prompts.prompt import Example

SMALL = Evaluation(
    detectors=("regex:[a-m]",),
    decoding=Decoding(max_new_tokens=2),
    neutral=2,
    perplexity=0,
    over_refusal=0,
    divergence_tokens=3,
    development=2,
    speed=False,
    seeds=(0,),
)


def pair_set():
    def side(word):
        return tuple(Example(f"{word} {n}", "", "yes it is", "no it is not") for n in range(3))

    contrasts = tuple(Contrast(side(f"bad {split}"), side(f"good {split}")) for split in "abc")
    return PairSet(Behaviour("tone", "A tone", margin="answer", detector="formality"), contrasts)


def circuit_of(subject):
    rows = [Row(Neuron(0, None, n), float(n), 1.0) for n in range(1, 6)]
    return Circuit.of(rows, name="mine", origin=Origin(subject.identity))


def test_a_sweep_is_dial_by_number_of_neurons(tmp_path):
    subject = tiny_subject()
    grid = Grid((-1.0, 1.0), (1.0,), SMALL, tmp_path / "sweep")
    found = sweep(subject, circuit_of(subject), pair_set(), (1, 4), grid=grid)
    cells = {(condition.label, condition.dial) for condition in found.dense.conditions[1:]}
    assert cells == {(f"{count} neurons", dial) for count in (1, 4) for dial in (-1.0, 1.0)}
    assert all({"kl", "margin"} <= set(condition.metrics) for condition in found.dense.conditions[1:])
    assert not any("rate:regex:[a-m]" in condition.metrics for condition in found.dense.conditions)
    assert {condition.dial for condition in found.answers.conditions} == {0.0, 1.0}
    assert all("rate:regex:[a-m]" in condition.metrics for condition in found.answers.conditions)
    assert (tmp_path / "sweep" / "dense" / "measures.jsonl").exists()
    only = sweep(subject, circuit_of(subject), pair_set(), (1,), grid=Grid((1.0,), (), SMALL))
    assert only.answers is None
    assert only.dense.condition("1 neurons", 1.0).metrics["kl"] == found.dense.condition("1 neurons", 1.0).metrics["kl"]


@pytest.mark.parametrize("counts", [(), (0,), (9,), (2, 2)])
def test_numbers_of_neurons_that_make_no_sense(counts):
    subject = tiny_subject()
    with pytest.raises(OptionError):
        sweep(subject, circuit_of(subject), pair_set(), counts, grid=Grid((1.0,), (), SMALL))


def test_a_frontier_holds_every_method():
    subject = tiny_subject()
    found = frontier(subject, [circuit_of(subject)], pair_set(), ("random", "caa"), grid=Grid((0.5, 1.0), (), SMALL))
    assert {condition.method for condition in found.dense.conditions} == {"unsteered", "circuit", "random", "caa"}


def test_a_strength_is_searched_once_for_the_grid_and_for_the_answers(monkeypatch):
    searched = []
    plain = methods.search_paths

    def counted(*args, **options):
        searched.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(methods, "search_paths", counted)
    subject = tiny_subject()
    found = frontier(subject, [circuit_of(subject)], pair_set(), ("random", "caa"), grid=Grid((0.5,), (0.5,), SMALL))
    [dense], [answers] = (
        [condition for condition in report.conditions if condition.method == "caa"]
        for report in (found.dense, found.answers)
    )
    assert len(searched) == 1
    assert dense.details == answers.details


def report_of(points):
    """A report whose methods have given (dial, KL, behaviour) points; unsteered shows it in 0.8."""

    def estimate(value):
        return Estimate(value, value, value, 10, "given")

    def condition(label, dial, kl, left):
        return ConditionResult("circuit", label, dial, {}, {"kl": estimate(kl), "rate:x": estimate(left)}, {})

    plain = ConditionResult("unsteered", "unsteered", 0.0, {}, {"rate:x": estimate(0.8)}, {})
    return Report(
        "x", {"x": ""}, (plain, *(condition(label, *point) for label, own in points.items() for point in own))
    )


def test_the_area_under_a_frontier_by_hand():
    report = report_of(
        {
            "good": [(1.0, 0.02, 0.4), (2.0, 0.05, 0.2), (3.0, 0.5, 0.0), (-1.0, 0.01, 0.0)],
            "worse later": [(1.0, 0.02, 0.4), (2.0, 0.05, 0.7)],
            "useless": [(1.0, 0.05, 0.8)],
        }
    )
    found = {figure.label: figure for figure in frontier_figures(report, cap=0.1)}
    # 1 up to 0.02, then 0.5 up to 0.05, then 0.25 up to the cap; the negative dial and what lies past the cap are out.
    assert found["good"].area == pytest.approx((0.02 * 1 + 0.03 * 0.5 + 0.05 * 0.25) / 0.1)
    assert found["good"].left == pytest.approx(0.25)
    assert found["worse later"].area == pytest.approx((0.02 * 1 + 0.08 * 0.5) / 0.1)
    assert (found["useless"].area, found["useless"].left) == (1.0, 1.0)
    assert frontier_figures(report, cap=0.1)[0].label == "good"
    wide = {figure.label: figure for figure in frontier_figures(report, cap=1.0)}
    assert wide["good"].left == 0.0
    with pytest.raises(OptionError):
        frontier_figures(report, cap=0.0)


def test_transfer_puts_each_circuit_on_each_model():
    subjects = (tiny_subject(seed=0), tiny_subject(seed=1))
    grid = Grid((1.0,), (1.0,), replace(SMALL, margin="none"))
    found = transfer(subjects, pair_set(), method=CNA(select=Count(3), universal=None, folds=0), grid=grid)
    assert set(found.reports) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert found.overlap.first == found.overlap.second == 3
    kl = {key: report.conditions[1].metrics["kl"].value for key, report in found.reports.items()}
    assert len(set(kl.values())) == 4


def test_layers_against_shuffled_sides():
    """A layer whose activations are ten times as large draws neurons by size alone, and the null shows it."""
    import torch

    subject = tiny_subject()
    with torch.no_grad():
        subject.blocks[1].mlp.up_proj.weight.mul_(10)
    contrast = pair_set().discovery
    rows = layers(subject, contrast, method=CNA(select=Count(8), universal=None, folds=0), shuffles=4)
    assert [row.layer for row in rows] == [0, 1]
    assert sum(row.found for row in rows) == 8
    assert sum(row.expected for row in rows) == pytest.approx(8)
    assert rows[1].expected > 6
    assert all(row.low <= row.expected <= row.high for row in rows)
    again = layers(subject, contrast, method=CNA(select=Count(8), universal=None, folds=0), shuffles=4)
    assert again == rows
    with pytest.raises(OptionError):
        layers(subject, contrast, shuffles=0)


def test_the_token_plan_grows_with_what_is_asked():
    subject = tiny_subject()
    grid = Grid((1.0,), (1.0,), SMALL)
    bill = token_plan(subject, pair_set(), 1, grid)
    assert token_plan(subject, pair_set(), 2, grid)["dense"] > bill["dense"] > 0
    longer = replace(SMALL, decoding=Decoding(max_new_tokens=20))
    assert token_plan(subject, pair_set(), 1, replace(grid, options=longer))["answers"] > bill["answers"]
    assert token_plan(subject, pair_set(), 1, replace(grid, points=()))["answers"] == 0


def test_the_papers_protocol():
    found = paper(SMALL)
    assert (found.decoding.max_new_tokens, found.decoding.temperature, found.prompts) == (150, 0.0, 100)
    assert found.detectors[0] == "bare:refusal:cna"
    assert (found.harness.tasks, found.harness.limit) == (("mmlu",), 1000)
    given = HarnessOptions(("mmlu:data",), limit=50, fewshot=0, seed=2)
    assert paper(replace(SMALL, harness=given)).harness == given
    assert paper(SMALL, with_mmlu=False).harness.tasks == ()
    assert found.kl_limit == SMALL.kl_limit
