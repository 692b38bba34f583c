"""Effect and cost end to end on a tiny model: the doses found are what the report says they are."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tolerance import of_margins

import neurodial as nd
from neurodial.circuit.file import circuit_json
from neurodial.circuit.report import Goal, MarginAgreement
from neurodial.cli.circuits_command import report_lines
from neurodial.discovery import find as find_all
from neurodial.errors import BudgetError, MarginError, OptionError, PromptError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.scale import Scale
from neurodial.margins import choose_margin as choosing
from neurodial.margins import openers as openers_of_answers
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.margin import Alternatives, ClassifierLogit, Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.dose import effects
from neurodial.methods.dose.effect import effect_scores
from neurodial.methods.dose.inputs import _refuse_certain
from neurodial.methods.dose.options import Dose
from neurodial.methods.scores import Scores
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.prompt import Example
from neurodial.provenance import sha256
from neurodial.strength.development import Development
from neurodial.strength.limits import Trial

LOGIT = ClassifierLogit(lambda hidden: hidden[-1, 3] * 2 - hidden[-1, 5])
PAIRS = nd.PairSet.of(
    [Example(f"harm {n}?", positive_answer="no", negative_answer="yes, so") for n in range(14)],
    [Example(f"help {n}!", positive_answer="no", negative_answer="yes, so") for n in range(14)],
)


@pytest.fixture(scope="module")
def neutral(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "plain.txt"
    path.write_text("\n".join(f"tell me {number}" for number in range(8)))
    return str(path)


@pytest.fixture(scope="module")
def subject():
    return tiny_subject()


@pytest.fixture(scope="module")
def find(subject, neutral):
    """Discovers with some options; the same ones are not computed twice."""
    known: dict[str, nd.Circuit] = {}

    def discover(margin=LOGIT, prompts=PAIRS, *, afresh=False, **options):
        chosen = {
            "select": nd.Count(5),
            "neutral": neutral,
            "answer_tokens": 6,
            "folds": 0,
            "sign": "positive",
            **options,
        }
        key = repr((margin, prompts.hash, chosen))
        if key not in known or afresh:
            known[key] = nd.discover(subject, prompts, method=Dose(**chosen), margin=margin)
        return known[key]

    return discover


def measured_again(subject, circuit, neutral):
    """Damage and margins of a circuit, measured without any of the tuning code."""
    prompts = sorted(Path(neutral).read_text().splitlines(), key=sha256)
    passages = own_answers(subject, prompts[1::2], decoding=Decoding(max_new_tokens=6))
    [divergence] = measure_divergence(subject, passages, [Scale(circuit)])
    sides = (PAIRS.development.positive, PAIRS.development.negative)
    margins = [measure_margins(subject, LOGIT, side, under=Scale(circuit)) for side in sides]
    return divergence.mean, *(sum(values) / len(values) for values in margins)


def test_the_better_of_one_sign_and_both_is_kept(find):
    """By measured margin within the budget; by damage where a margin is asked for."""
    apart = {sign: find(budget=0.02, sign=sign) for sign in ("positive", "both", "negative")}
    assert all(row.dose > 0 for row in apart["positive"])
    assert all(row.dose < 0 for row in apart["negative"])
    assert len({row.dose > 0 for row in apart["both"]}) == 2
    margins = {sign: circuit.origin.report.measured.margin for sign, circuit in apart.items()}
    tuned = find(budget=0.02, sign="tuned")
    report = tuned.origin.report
    assert margins["both"] != margins["positive"]
    assert report.sign == min(("positive", "both"), key=margins.__getitem__)
    assert tuned.rows == apart[report.sign].rows
    assert {sign: one.margin for sign, one in report.signs.items()} == {
        sign: margins[sign] for sign in ("positive", "both")
    }
    target = (margins["positive"] + report.measured.margin_before) / 2
    aimed = {sign: find(margin_target=target, budget=None, sign=sign) for sign in ("positive", "both")}
    costs = {sign: circuit.origin.report.measured.divergence for sign, circuit in aimed.items()}
    chosen = find(margin_target=target, budget=None, sign="tuned").origin.report
    assert chosen.sign == min(costs, key=costs.__getitem__)


def test_where_one_sign_cannot_reach_the_target_the_other_is_taken(find):
    furthest = {sign: find(budget=50.0, sign=sign).origin.report.measured.margin for sign in ("positive", "both")}
    near, far = sorted(furthest, key=furthest.__getitem__, reverse=True)
    between = (furthest[near] + furthest[far]) / 2
    short = find(budget=None, margin_target=between, sign=near).origin.report
    assert short.measured.margin == pytest.approx(furthest[near], abs=0.02 * abs(furthest[near]))
    assert not short.goal.reached
    assert "comes to" in short.shortfall
    report = find(budget=None, margin_target=between, sign="tuned").origin.report
    assert (report.sign, set(report.signs)) == (far, {far})
    assert "not to -1000" in find(budget=None, margin_target=-1e3, sign="tuned").origin.report.shortfall


def test_where_no_neuron_holds_it_up_those_that_hold_it_down_are_taken(find, monkeypatch):
    def all_negative(*arguments):
        return Scores({site: values.clamp(max=0) for site, values in effect_scores(*arguments).items()})

    monkeypatch.setattr(effects, "effect_scores", all_negative)
    with pytest.raises(OptionError, match="No neuron holds the behaviour up"):
        find(sign="positive", budget=0.05, afresh=True)
    found = find(sign="tuned", budget=0.05, afresh=True)
    assert found.origin.report.sign == "both"
    assert all(row.dose < 0 for row in found)


def test_the_budget_is_kept_and_the_report_is_true(subject, find, neutral):
    circuit = find(budget=0.02)
    report = circuit.origin.report.measured
    divergence, margin, other = measured_again(subject, circuit, neutral)
    assert 0.01 < divergence <= 0.02
    assert report.divergence == pytest.approx(divergence, rel=1e-4)
    assert report.margin == pytest.approx(margin, abs=of_margins(subject))
    assert report.other_side == pytest.approx(other, abs=of_margins(subject))
    assert report.margin < report.margin_before
    assert all(0 < row.dose <= 3 for row in circuit)
    assert circuit.direction == "remove"


def test_prompts_that_lack_answers_are_refused_before_any_work(subject, neutral, monkeypatch):
    monkeypatch.setattr("neurodial.methods.dose.inputs.generate", None)
    bare = nd.PairSet.of([f"harm {n}?" for n in range(14)], [f"help {n}!" for n in range(14)])
    with pytest.raises(MarginError, match="has no pair of answers"):
        nd.discover(subject, bare, method=Dose(margin="answer", neutral=neutral))


def test_a_larger_budget_removes_more(find):
    found = [find(budget=budget).origin.report.measured.margin for budget in (0.005, 0.02, 0.08)]
    assert found[0] > found[1] > found[2]


def test_the_prediction_holds_for_small_doses(find):
    report = find(budget=0.0002, draws=8).origin.report
    # First order, and discovery prompts for the prediction against development prompts for the measurement.
    assert report.predicted.margin_change == pytest.approx(report.measured.margin_change, rel=0.1)
    assert report.predicted.divergence_diagonal == pytest.approx(report.measured.divergence, rel=0.6)


def test_inducing_turns_neurons_up_where_the_behaviour_is_absent(find):
    circuit = find(direction="induce")
    report = circuit.origin.report.measured
    assert circuit.direction == "induce"
    assert all(-3 <= row.dose < 0 for row in circuit)
    assert report.margin > report.margin_before


def test_a_target_is_met_at_the_least_damage(find):
    before = find().origin.report.measured.margin_before
    circuit = find(margin_target=before - 0.3, budget=None)
    report = circuit.origin.report.measured
    assert before - 0.45 < report.margin <= before - 0.3


def test_what_cannot_be_met_is_said_and_the_best_that_was_found_is_given(find, caplog):
    before = find().origin.report.measured.margin_before
    costly = find(margin_target=before - 0.3, budget=1e-4).origin.report
    assert costly.measured.divergence <= 1e-4, "a budget is kept where it can be"
    assert costly.measured.margin < before
    assert "the budget is 0.0001" in costly.shortfall
    assert "The best that was found is taken" in caplog.text
    far = find(margin_target=before - 300, budget=None)
    assert "comes to" in far.origin.report.shortfall
    assert any(line.startswith("not met: The margin") for line in report_lines(far.origin.report))
    broken = find(budget=1e-12).origin.report
    assert "Even the smallest strength costs" in broken.shortfall
    assert not broken.goal.reached
    assert find().origin.report.shortfall == ""


def test_where_nothing_moves_the_margin_as_asked_it_is_an_error(find, monkeypatch):
    monkeypatch.setattr(
        Development,
        "trials",
        lambda self, strengths, steered: [
            Trial(s, one, 0.001, 0.0, self.unsteered.margin + s) for s, one in zip(strengths, steered, strict=True)
        ],
    )
    with pytest.raises(BudgetError, match=r"Nothing useful was found: The margin stays at .*Take another margin"):
        find(budget=0.033)


def test_with_neither_the_behaviour_becomes_as_weak_as_where_it_is_absent(find):
    report = find(budget=None).origin.report
    assert report.goal == Goal(None, report.measured.other_side_before, reached=True)
    assert report.measured.margin <= report.measured.other_side_before


@pytest.mark.parametrize(
    "change",
    [
        {"x_max": 0.3},
        {"dosing": "uniform"},
        {"draws": 5},
        {"seed": 7},
        {"answer_tokens": 3},
        {"skip_layers": (1,)},
        {"system": "Be brief."},
        {"select": nd.Count(2)},
        {"select": nd.PerLayer(1)},
        {"select": nd.Threshold(0.2)},
        {"select": nd.Mass(0.3)},
    ],
    ids="-".join,
)
def test_every_option_changes_the_result(find, change):
    plain, changed = find(), find(**change)
    assert plain.rows != changed.rows
    if "x_max" in change:
        assert max(row.dose for row in changed) <= 0.3
    if "skip_layers" in change:
        assert {row.neuron.layer for row in changed} == {0}
    if change.get("select") == nd.PerLayer(1):
        assert sorted(row.neuron.layer for row in changed) == [0, 1]
    if change.get("dosing") == "uniform":
        assert len({row.dose for row in changed}) == 1


def test_other_neutral_prompts_change_the_result(find, tmp_path):
    path = tmp_path / "others.txt"
    path.write_text("one and two\nthree, four\nfive")
    changed = find(neutral=str(path))
    assert changed.rows != find().rows
    assert changed.origin.report.neutral.name == "others"


def test_the_same_choices_give_the_same_circuit(find):
    first, second = find(folds=3), find(folds=3, afresh=True)
    assert first.rows == second.rows
    assert first.stability == second.stability
    assert first.stability is not None
    assert len(first.stability.overlaps) == 3
    assert 0 < first.stability.mean <= 1


def test_the_report_travels_with_the_file(find, tmp_path):
    circuit = find()
    again = nd.Circuit.read(circuit.write(tmp_path / "a.circuit.json"))
    assert again == circuit
    assert again.origin.report is not None
    assert again.origin.report.trials
    assert again.origin.method["kind"] == "Dose"
    old = circuit_json(dataclasses.replace(circuit, origin=dataclasses.replace(circuit.origin, report=None)))
    (tmp_path / "old.json").write_text(old.replace('"report": null,', ""))
    assert nd.Circuit.read(tmp_path / "old.json").origin.report is None


def test_the_time_of_every_part_is_reported(subject, find, neutral):
    seconds = find().origin.report.seconds
    assert list(seconds) == ["neutral answers", "effects", "costs", "search"]
    chosen = Dose(select=nd.Count(5), neutral=neutral, answer_tokens=6, folds=0, margin="answer")
    report = nd.discover(subject, PAIRS, method=chosen).origin.report
    assert report is not None
    assert "margin" in report.seconds
    [line] = [line for line in report_lines(replace(report, seconds={"a": 4.0, "b": 70.0})) if line.startswith("took")]
    assert line == "took 1 min 14 s: b 1 min 10 s, a 4 s"


def test_the_model_is_given_back(subject, find):
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    find(afresh=True)
    assert all(bool((value == before[name]).all()) for name, value in subject.model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in subject.model.modules())


# ---------------------------------------------------------------------------------------------------- bad input


def test_one_contrast_is_not_enough(find):
    with pytest.raises(OptionError, match=r"Pass pairs, not pairs.discovery"):
        find(prompts=PAIRS.discovery)


def test_a_set_without_development_prompts(find):
    pairs = nd.PairSet(PAIRS.behaviour, (PAIRS.discovery, None, None))
    with pytest.raises(PromptError, match="no development prompts"):
        find(prompts=pairs)


def test_cna_takes_a_pair_set_and_no_margin(subject):
    method = nd.CNA(universal=None)
    whole, part = (nd.discover(subject, prompts, method=method) for prompts in (PAIRS, PAIRS.discovery))
    assert whole.rows == part.rows
    with pytest.raises(OptionError, match="CNA has no margin"):
        nd.discover(subject, PAIRS, method=method, margin=LOGIT)


def test_neutral_prompts_that_show_the_behaviour(find):
    every_answer = Openers.of([(token,) for token in range(260)])
    with pytest.raises(PromptError, match=r"begin as the behaviour's do.*Give other neutral prompts"):
        find(margin=every_answer)


def test_neutral_answers_in_which_the_detector_sees_the_behaviour_are_left_out(subject, neutral):
    def discover(shows):
        chosen = Dose(select=nd.Count(5), neutral=neutral, answer_tokens=6, folds=0)
        return nd.discover(subject, PAIRS, method=chosen, margin=LOGIT, shows=shows).origin.report

    some = discover(lambda exchanges: [prompt.endswith(("1", "2")) for prompt, _ in exchanges])
    assert (some.neutral.answers, some.neutral.left_out) == (6, 2)
    with pytest.raises(PromptError, match=r"4 of 4 answers .*show the behaviour, by its detector.*--neutral FILE"):
        discover(lambda exchanges: [True] * len(exchanges))


def test_a_margin_at_its_ceiling_is_said(subject, find):
    every_answer = Openers.of([(token,) for token in range(260)])
    with pytest.raises(MarginError, match="at its ceiling on all 3 development prompts"):
        _refuse_certain(subject, BehaviourMargin.of(every_answer, kind="openers"), PAIRS.development.positive, Dose())
    alternatives = BehaviourMargin.of(Alternatives(every_answer), kind="alternatives")
    with pytest.raises(MarginError, match="at its ceiling"):
        _refuse_certain(subject, alternatives, PAIRS.development.positive, Dose())
    _refuse_certain(subject, BehaviourMargin.of(Openers.of([(73,)])), PAIRS.development.positive, Dose())


def test_no_opener_tells_the_sides_apart(neutral):
    silent = tiny_subject()
    silent.model.lm_head.weight.data.zero_()  # every answer is the same
    bare = nd.PairSet.of([f"harm {n}?" for n in range(14)], [f"help {n}!" for n in range(14)])
    with pytest.raises(MarginError, match="Nothing tells answers to the two sides apart"):
        nd.discover(silent, bare, method=Dose(neutral=neutral, answer_tokens=4))
    for prompts in (bare, PAIRS):
        with pytest.raises(MarginError, match="No beginning of an answer tells the two sides apart"):
            nd.discover(silent, prompts, method=Dose(neutral=neutral, answer_tokens=4, margin="openers"))


def test_where_no_opening_tells_the_sides_apart_the_answers_of_the_prompts_do(monkeypatch, subject, neutral):
    def none(*_, **__):
        raise MarginError("No opening at all.")

    monkeypatch.setattr(openers_of_answers, "find_alternatives", none)
    monkeypatch.setattr(openers_of_answers, "find_openers", none)
    monkeypatch.setattr(choosing, "spans_of", none)
    chosen = Dose(select=nd.Count(5), neutral=neutral, answer_tokens=6, folds=0)
    fallen, asked = (
        nd.discover(subject, PAIRS, method=method) for method in (chosen, replace(chosen, margin="answer"))
    )
    assert fallen.rows == asked.rows
    assert "No opening at all" in fallen.origin.report.margin_text
    assert "No opening" not in asked.origin.report.margin_text


def test_removing_pushes_towards_the_other_sides_openings_and_inducing_towards_the_behaviours(
    monkeypatch, subject, neutral
):
    openings, openers = Openers.of([(70,), (71,)]), Openers.of([(72, 73)])
    monkeypatch.setattr(openers_of_answers, "find_alternatives", lambda *_, **__: Alternatives(openings, openers))
    monkeypatch.setattr(openers_of_answers, "find_openers", lambda *_, **__: openers)

    monkeypatch.setattr(choosing, "weigh", lambda *_, **__: MarginAgreement(1.0, 1.0, 4))

    def kind(**options):
        chosen = Dose(select=nd.Count(5), neutral=neutral, answer_tokens=6, folds=0, budget=0.02, **options)
        return nd.discover(subject, PAIRS, method=chosen).origin.report

    removing = kind()
    assert removing.margin == kind(margin="alternatives").margin == "Alternatives"
    assert removing.measured.margin_change < 0
    assert all((removing.coverage, removing.alternatives_coverage))
    assert kind(margin="openers").margin == kind(direction="induce").margin == "Openers"
    with pytest.raises(OptionError, match=r"leads away.*margin openers or answer to induce"):
        Dose(margin="alternatives", direction="induce")


def test_fewer_neutral_passages_are_answered(find):
    assert find(budget=0.02, passages=2).origin.report.measured.tokens <= 2 * 7
    assert find(budget=0.02, passages=2).rows != find(budget=0.02).rows
    with pytest.raises(OptionError, match="passages is 0"):
        Dose(passages=0)


def test_whole_answers_as_the_margin(subject, neutral):
    method = Dose(select=nd.Count(5), neutral=neutral, answer_tokens=6, folds=0, margin="answer")
    circuit = nd.discover(subject, PAIRS, method=method)
    report = circuit.origin.report
    assert report.margin == "AnswerMargin"
    assert report.measured.margin_change < 0
    bare = nd.PairSet.of([f"a {n}" for n in range(10)], [f"b {n}" for n in range(10)])
    with pytest.raises(MarginError, match="positive_answer and negative_answer"):
        nd.discover(subject, bare, method=method)


@pytest.mark.parametrize("method", ["cna", "dose"])
def test_the_scores_of_all_neurons_come_beside_the_circuit(subject, neutral, method):
    if method == "cna":
        found = find_all(subject, PAIRS, method=nd.CNA(universal=None, folds=0, select=nd.Count(5)))
        best = found.scores.flat().abs().topk(5).values
        assert sorted(abs(row.score) for row in found.circuit) == pytest.approx(sorted(best.tolist()))
    else:
        options = Dose(select=nd.Count(5), neutral=neutral, answer_tokens=6, folds=0)
        found = find_all(subject, PAIRS, method=options, margin=LOGIT)
        assert found.circuit.rows == nd.discover(subject, PAIRS, method=options, margin=LOGIT).rows
    assert found.scores.neurons == subject.neurons
    for row in found.circuit:
        assert float(found.scores[row.neuron.site][row.neuron.index]) == pytest.approx(row.score)


# ------------------------------------------------------------------------------------------- gradient steps


def test_fitted_doses_are_measured_and_the_better_ones_are_taken(find, subject, neutral):
    closed, fitted = find(budget=0.02), find(budget=0.02, fit=12)
    before, report = closed.origin.report, fitted.origin.report
    fit = report.fit
    assert (before.fit, fit.asked) == (None, 12)
    assert 0 < fit.made <= 12
    assert fit.before.margin == before.measured.margin
    assert {row.neuron for row in fitted} == {row.neuron for row in closed}
    assert fit.taken is (fit.after is not None and fit.after.margin < fit.before.margin)
    assert fit.taken, "gradient steps find more here than the closed form"
    divergence, margin, _ = measured_again(subject, fitted, neutral)
    assert (divergence, margin) == pytest.approx((fit.after.divergence, fit.after.margin), rel=1e-4)
    assert divergence <= 0.02
    assert any(line.startswith("fit (development)") for line in report_lines(report))
    with pytest.raises(OptionError, match="fit is -1"):
        Dose(fit=-1)
