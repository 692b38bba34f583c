"""The whole run on tiny models: what is measured, that it resumes, and that nonsense is refused."""

import json
from dataclasses import replace

import pytest
import torch
from tests.scripted import ids, says, speaking
from tests.tolerance import of_margins

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.discovery import discover
from neurodial.errors import FileError, OptionError, OverlapError, PromptError, UnknownNameError
from neurodial.evaluation import answering, compared
from neurodial.evaluation.detectors.base import Detector, Verdict
from neurodial.evaluation.detectors.known_error import known_error
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.options import Evaluation, check_dials
from neurodial.evaluation.report.evaluation import evaluation_page, write_report
from neurodial.evaluation.report.html_page import render_page
from neurodial.evaluation.report.methods_text import methods_text
from neurodial.evaluation.results import report_json
from neurodial.evaluation.run_rows import GenerationRow, VerdictRow
from neurodial.evaluation.store import Answers, Store, read_rows
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.base import Together
from neurodial.intervention.scale import Scale
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.margin import Alternatives, AnswerMargin, Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.cna.options import CNA
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.prompts.prompt import Example
from neurodial.strength import development
from neurodial.text.degeneration import Brokenness

SMALL = Evaluation(
    detectors=("regex:[a-m]", "length:1"),
    decoding=Decoding(max_new_tokens=4, batch_size=4),
    neutral=2,
    perplexity=2,
    questions=3,
    over_refusal=0,
    divergence_tokens=4,
    development=2,
    seeds=(0,),
)


def pair_set():
    """Answers of their own, so that a random model has a margin without openers."""

    def side(word):
        return tuple(Example(f"{word} {n}", "", "yes it is", "no it is not") for n in range(3))

    contrasts = tuple(Contrast(side(f"bad {split}"), side(f"good {split}")) for split in "abc")
    return PairSet(Behaviour("tone", "A tone", margin="answer", detector="formality"), contrasts)


def figures(report, but=""):
    """Every number of a report as text, so that one that is not a number equals itself."""
    conditions = json.loads(report_json(report))["arms"]
    return [{name: value for name, value in condition["metrics"].items() if name != but} for condition in conditions]


def circuit_of(subject, name="mine"):
    rows = [Row(Neuron(0, None, 1), 1.0, 1.0), Row(Neuron(1, None, 5), -1.0, 1.0)]
    return Circuit.of(rows, name=name, origin=Origin(subject.identity))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    subject = tiny_subject()
    folder = tmp_path_factory.mktemp("run") / "report"
    circuit = circuit_of(subject)
    interventions = [Scale(circuit, dial=dial) for dial in (-1.0, 0.0, 1.0)]
    against = ("caa", "random", "prompt")
    report = evaluate(subject, interventions, pair_set(), against=against, options=SMALL, folder=folder)
    return subject, interventions, against, folder, report


def test_every_intervention_and_dial_is_there(run):
    report = run[-1]
    found = {(condition.method, condition.dial) for condition in report.conditions}
    assert found == {
        ("unsteered", 0.0),
        *{(name, dial) for name in ("circuit", "caa", "random", "prompt") for dial in (-1.0, 1.0)},
    }
    assert report.conditions[0].label == "unsteered"


def test_every_number_has_n_and_interval(run):
    for condition in run[-1].conditions:
        assert {"rate:regex:[a-m]", "rate:length:1", "opposite", "repetition"} <= set(condition.metrics)
        for name, estimate in condition.metrics.items():
            assert estimate.n > 0
            assert name == "distinct" or estimate.low <= estimate.value <= estimate.high
        if condition.method not in {"unsteered", "prompt"}:
            assert {"kl", "perplexity", "accuracy", "margin", "slowdown"} <= set(condition.metrics)
            assert condition.metrics["kl"].value > 0
    assert "kl" not in run[-1].conditions[0].metrics


def test_differences_are_paired_against_unsteered(run):
    report = run[-1]
    condition = report.condition("mine", 1.0)
    change = condition.differences["margin"]
    before, after = report.unsteered.metrics["margin"].value, condition.metrics["margin"].value
    assert change.estimate.value == pytest.approx(after - before)
    assert report.unsteered.differences == {}
    assert report.agreement[0].n > 0


def test_the_answers_are_those_of_generate(run):
    subject, interventions, _, folder, _ = run
    rows = read_rows(folder, GenerationRow)
    prompts = [example.prompt for example in pair_set().test.positive]
    expected = generate(subject, prompts, under=interventions[2], decoding=SMALL.decoding)
    found = {row.index: row.answer for row in rows if row.condition == "mine @ 1" and row.set == "behaviour"}
    assert [found[n] for n in range(3)] == [answer.text for answer in expected]


def test_only_the_development_split_tunes(run):
    """The test split is exchanged: what was chosen for CAA stays the same to the last digit."""
    subject, interventions, _, _, report = run
    pairs = pair_set()
    other = Contrast.of(["quite other"], ["prompts here"])
    changed = PairSet(pairs.behaviour, (pairs.splits[0], pairs.splits[1], other))
    again = evaluate(subject, interventions[2:], changed, against=("caa",), options=replace(SMALL, margin="none"))
    chosen = next(condition.details for condition in report.conditions if condition.method == "caa")
    assert next(condition.details for condition in again.conditions if condition.method == "caa") == chosen


def test_a_finished_run_repeats_nothing(run, monkeypatch):
    subject, interventions, against, folder, report = run
    before = {path.name: path.read_text() for path in folder.glob("*.jsonl")}

    def forbidden(*arguments, **options):
        raise AssertionError("an answer was made again")

    monkeypatch.setattr(answering, "generate", forbidden)
    monkeypatch.setattr(compared, "own_answers", forbidden)
    again = evaluate(subject, interventions, pair_set(), against=against, options=SMALL, folder=folder)
    assert {path.name: path.read_text() for path in folder.glob("*.jsonl")} == before
    assert figures(again) == figures(report)


def test_an_interrupted_run_goes_on_and_gives_the_same(run, tmp_path, monkeypatch):
    subject, interventions, against, _, report = run
    folder = tmp_path / "report"
    calls, real = [], answering.generate

    def flaky(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(answering, "generate", flaky)
    with pytest.raises(KeyboardInterrupt):
        evaluate(subject, interventions, pair_set(), against=against, options=SMALL, folder=folder)
    with (folder / "generations.jsonl").open("a") as stream:
        stream.write('{"arm": "cut o')  # a torn line, as a power cut leaves it
    again = evaluate(subject, interventions, pair_set(), against=against, options=SMALL, folder=folder)
    assert figures(again, but="slowdown") == figures(report, but="slowdown")


def test_surprise_is_what_the_unsteered_model_makes_of_the_answers(run):
    subject, _, _, folder, report = run
    rows = [row for row in Store.read(folder).rows(GenerationRow) if row.set == "neutral" and row.answer]
    names = {condition.key: condition for condition in report.conditions}
    assert {row.condition for row in rows} == set(names)
    for key, condition in names.items():
        total, tokens = 0.0, 0
        for row in (row for row in rows if row.condition == key):
            [prompt] = subject.render([row.prompt])
            said = subject.encode(row.answer, special=False)
            with torch.no_grad():
                logits = subject.model(torch.tensor([[*prompt, *said]])).logits[0].double()
            for place, token in enumerate(said, start=len(prompt) - 1):
                total -= float(logits[place].log_softmax(0)[token])
                tokens += 1
        assert condition.metrics["surprise"].value == pytest.approx(total / tokens, rel=1e-5)
    assert len({condition.metrics["surprise"].value for condition in report.conditions}) > 1


def test_a_folder_goes_on_when_a_later_version_has_an_option_that_is_not_asked_for(run):
    subject, interventions, against, folder, report = run
    marker = folder / "run.json"
    identity = json.loads(marker.read_text())
    assert identity["options"].pop("max_broken") is None
    marker.write_text(json.dumps(identity))
    again = evaluate(subject, interventions, pair_set(), against=against, options=SMALL, folder=folder)
    assert figures(again, but="slowdown") == figures(report, but="slowdown")
    options = replace(SMALL, max_broken=0.5)
    with pytest.raises(FileError, match="options"):
        evaluate(subject, interventions, pair_set(), against=against, options=options, folder=folder)


class Changed:
    """Calls an answer broken by 0.75 where it is not the one that the model gave first, unsteered."""

    def __init__(self):
        self.plain = {}

    def measure(self, prompt, answer):
        value = 0.25 if self.plain.setdefault(prompt, answer) == answer else 0.75
        return Brokenness(value, "changed", 0.0, 0, None, 1)


def test_other_methods_keep_to_the_limit_on_broken_answers(monkeypatch):
    """Every changed answer is called broken, so a limit of 0 allows only strengths that change no answer."""
    subject = tiny_subject()
    options = replace(SMALL, perplexity=0, questions=0, speed=False, kl_limit=3.0, divergence_tokens=6)
    details = {}
    for limit in (None, 1.0, 0.0):
        monkeypatch.setattr(development, "_BROKEN", Changed())
        limited = replace(options, max_broken=limit)
        report = evaluate(subject, [Scale(circuit_of(subject))], pair_set(), against=("caa",), options=limited)
        [details[limit]] = [c.details for c in report.conditions if c.method == "caa"]
        assert report.settings["max_broken"] == limit
        told = methods_text(report)
        assert ("mean brokenness of those answers at most" in told) == (limit is not None)
    free, lenient, held = details.values()
    assert "development_broken" not in free
    assert lenient["strength"] == free["strength"]
    assert lenient["development_broken"] > lenient["development_broken_unsteered"] == 0.25
    assert held["strength"] < free["strength"]
    assert held["development_broken"] == 0.25
    with pytest.raises(OptionError, match=r"max_broken is 2"):
        replace(SMALL, max_broken=2.0)


def test_the_error_of_every_detector_stands_in_the_report():
    subject = tiny_subject()
    options = replace(SMALL, detectors=("formality", "sentiment:positive", "regex:tea"), perplexity=0, questions=0)
    report = evaluate(subject, [Scale(circuit_of(subject))], pair_set(), options=replace(options, speed=False))
    known = {name: known_error(name) for name in report.detectors}
    assert report.provenance["detector_errors"] == {n: error.briefly for n, error in known.items() if error}
    text = methods_text(report)
    assert str(known["formality"]).rstrip(".") in text
    assert (
        f"Beside it stand sentiment:positive ({known['sentiment:positive'].briefly}), regex:tea (error not known)"
        in text
    )
    page = render_page(evaluation_page(report, Answers()))
    assert "kappa is 0.95" in page


def test_a_folder_of_another_run_is_refused(run, tmp_path):
    subject, interventions, against, folder, _ = run
    with pytest.raises(FileError, match="options"):
        evaluate(subject, interventions, pair_set(), against=against, options=replace(SMALL, neutral=1), folder=folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="holds files"):
        evaluate(subject, interventions, pair_set(), options=SMALL, folder=tmp_path)


def test_report_files_are_whole_and_redacted(run, tmp_path):
    report, folder = run[-1], run[3]
    written = write_report(report, tmp_path / "out", Answers.read(folder))
    assert {path.name for path in written} == {"report.json", "report.html", "dials.svg", "frontier.svg"}
    value = json.loads((tmp_path / "out" / "report.json").read_text())
    assert value["format"] == "neurodial.report"
    assert value["settings"]["neutral"] == 2
    assert len(value["arms"]) == len(report.conditions)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "KL(unsteered || steered)" in html
    assert "NaN" not in (tmp_path / "out" / "report.json").read_text()


def test_refusal_answers_are_left_out_of_the_page():
    subject = tiny_subject()
    contrast = Contrast.of(["Rob a bank"], ["Bake a cake"])
    options = replace(SMALL, detectors=("refusal",), questions=0, perplexity=0, speed=False, over_refusal=1)
    report = evaluate(subject, [Scale(circuit_of(subject), dial=1.0)], contrast, options=options)
    assert "over_refusal" in report.conditions[0].metrics
    rows = [
        GenerationRow(condition.key, name, 0, "p", f"TEXT OF {name}")
        for name in ("behaviour", "neutral")
        for condition in report.conditions
    ]
    html = render_page(evaluation_page(report, Answers(tuple(rows))))
    assert "TEXT OF neutral" in html
    assert "TEXT OF behaviour" not in html


# ------------------------------------------------------------------------------------------- bad input


def test_prompts_that_discovery_has_seen_are_refused():
    subject = tiny_subject()
    seen = Contrast.of(["Rob a bank", "Break in"], ["Bake a cake", "Sing"])
    circuit = discover(subject, seen, method=CNA(universal=None, folds=0))
    with pytest.raises(OverlapError, match="rob A BANK"):
        evaluate(subject, [Scale(circuit)], Contrast.of(["rob A BANK"], ["new"]), options=SMALL)


@pytest.mark.parametrize("dials", [[], [1.0, 1.0], [float("nan")], [1e9]])
def test_dials_that_make_no_sense(dials):
    with pytest.raises(OptionError):
        check_dials(dials)


def test_unknown_names_and_missing_splits():
    subject = tiny_subject()
    intervention = [Scale(circuit_of(subject))]
    with pytest.raises(UnknownNameError, match="caa"):
        evaluate(subject, intervention, pair_set(), against=["cca"], options=SMALL)
    with pytest.raises(UnknownNameError, match="refusal"):
        evaluate(subject, intervention, pair_set(), options=replace(SMALL, detectors=("refusol",)))
    with pytest.raises(OptionError, match="development"):
        evaluate(subject, intervention, pair_set().test, against=["caa"], options=SMALL)
    with pytest.raises(OptionError, match="list of dials"):
        evaluate(subject, [Scale(circuit_of(subject), dial=[0.0, 1.0])], pair_set(), options=SMALL)
    with pytest.raises(OptionError, match="twice"):
        evaluate(subject, intervention * 2, pair_set(), options=SMALL)
    only = PairSet(Behaviour("x"), (pair_set().splits[0], None, None))
    with pytest.raises(PromptError):
        evaluate(subject, intervention, only, options=SMALL)


@pytest.mark.parametrize(
    "change",
    [{"neutral": -1}, {"prompts": 0}, {"kl_limit": 0.0}, {"development": 0}, {"seeds": ()}, {"divergence_tokens": 0}],
)
def test_options_that_make_no_sense(change):
    with pytest.raises(OptionError):
        Evaluation(**change)


# ------------------------------------------------------------------------------------------- judges that fail


class Moody(Detector):
    """Fails on every second answer until it is told to recover."""

    def __init__(self):
        self.name, self.description, self.is_down, self.asked = "moody", "A judge that fails.", True, 0

    def judge(self, exchanges):
        self.asked += len(exchanges)
        return [Verdict("failed" if self.is_down and n % 2 else "shown") for n, _ in enumerate(exchanges)]


def test_failed_verdicts_count_for_nothing_and_are_asked_again(tmp_path):
    subject = tiny_subject()
    judge = Moody()
    options = replace(SMALL, questions=0, perplexity=0, speed=False, margin="none")
    settings = {"options": options, "detectors": [judge], "folder": tmp_path / "report"}
    report = evaluate(subject, [Scale(circuit_of(subject))], pair_set(), **settings)
    down = report.failed["moody"]
    assert down > 0
    rate = report.unsteered.metrics["rate:moody"]
    assert rate.n < 3
    assert rate.value == 1.0
    judge.is_down, judge.asked = False, 0
    again = evaluate(subject, [Scale(circuit_of(subject))], pair_set(), **settings)
    assert judge.asked == down
    assert again.failed["moody"] == 0
    assert again.unsteered.metrics["rate:moody"].n == 3


# ------------------------------------------------------------------------------------------- thinking


def thinking_store(endless):
    store = Store(None, {})
    answer = "" if endless else "Here is how."
    row = GenerationRow("unsteered", "behaviour", 0, "Rob?", answer, "I can't help with that.", endless, tokens=3)
    store.append([row])
    return store


@pytest.mark.parametrize(("endless", "label"), [(True, "degenerate"), (False, "absent")])
def test_thinking_is_left_out_and_an_endless_one_is_degenerate(endless, label):
    from neurodial.evaluation.detectors.registry import detector

    store = thinking_store(endless)
    answering.judge([detector("refusal")], Evaluation(), store)
    assert [row.label for row in store.rows(VerdictRow)] == [label]
    apart = thinking_store(endless)
    answering.judge([detector("refusal")], Evaluation(thinking="apart"), apart)
    assert {row.set: row.label for row in apart.rows(VerdictRow)} == {
        "behaviour": label,
        "behaviour:thinking": "shown",
    }


def test_composed_interventions_are_one_condition():
    subject = tiny_subject()
    both = Together((Scale(circuit_of(subject, "a")), Scale(circuit_of(subject, "b"))))
    options = replace(SMALL, questions=0, perplexity=0, speed=False, margin="none")
    report = evaluate(subject, [both], pair_set(), options=options)
    assert report.conditions[1].label == "a + b"


# ------------------------------------------------------------------------------------------- margins


def test_what_is_reported_is_the_behaviour_and_what_is_pushed_is_the_way_out():
    shown, other = Openers(((40,),), ("No",)), Openers(((50,),), ("Sure",))
    both = BehaviourMargin.of(Alternatives(other, shown))
    assert both.reported is shown
    assert both.pushed == Alternatives(other, shown)
    assert "'No'" in both.text
    assert "'Sure'" in both.text
    silent = BehaviourMargin.of(Alternatives(other))
    assert silent.reported is None
    assert silent.pushed == Alternatives(other)
    assert "not reported" in silent.text
    plain = BehaviourMargin.of(AnswerMargin())
    assert plain.reported is plain.pushed


def test_a_margin_that_is_given_is_the_one_measured_and_tuned_on(tmp_path):
    subject, pairs = tiny_subject(), pair_set()
    margin = Openers(((40,), (41,)), ("a", "b"))
    options = replace(SMALL, questions=0, perplexity=0)
    circuit = circuit_of(subject)
    report = evaluate(
        subject, [Scale(circuit)], pairs, margin=margin, against=("caa",), options=options, folder=tmp_path / "r"
    )
    steered = next(condition for condition in report.conditions if condition.method == "circuit")
    alone = measure_margins(subject, margin, pairs.test.positive, under=Scale(circuit))
    assert steered.metrics["margin"].value == pytest.approx(sum(alone) / len(alone), abs=of_margins(subject))
    tuned = next(condition for condition in report.conditions if condition.method.startswith("caa"))
    development = measure_margins(subject, margin, pairs.development.positive[:2])
    unsteered = sum(development) / len(development)
    assert tuned.details["development_margin_unsteered"] == pytest.approx(unsteered, abs=of_margins(subject))
    with pytest.raises(FileError):  # another margin is another run
        evaluate(subject, [Scale(circuit)], pairs, options=options, against=("caa",), folder=tmp_path / "r")


# ------------------------------------------------------------------------------------------- strangers' models


def thinking_report(subject, said, circuit=None, **fields):
    interventions = [Scale(circuit or circuit_of(subject, "a"))]
    options = replace(SMALL, questions=0, perplexity=0, speed=False, margin="none", **fields)
    options = replace(options, decoding=replace(options.decoding, max_new_tokens=30))
    with says(subject, ids(subject, said)):
        return evaluate(subject, interventions, pair_set(), options=options)


def test_the_report_says_how_many_answers_had_thinking_and_judges_what_follows_it():
    subject = speaking(["</think>"])
    report = thinking_report(subject, "XYZ</think>I can't help with that.", detectors=("regex:XYZ",))
    count = sum(report.provenance["counts"].values()) * len(report.conditions)
    [note] = [note for note in report.notes if "had thinking" in note]
    assert note.startswith(f"{count} of {count} answers had thinking (")
    assert "none was cut off inside it" in note
    assert report.conditions[0].metrics["rate:regex:XYZ"].value == 0
    assert not [note for note in thinking_report(speaking(), "Sure.").notes if "had thinking" in note]


def test_the_report_says_what_is_particular_about_the_model_and_under_which_options_a_circuit_was_made():
    from neurodial.prompts.template import Template

    template = "{% for m in messages %}{{ m.content }}{% endfor %}<{{ tone or 'plain' }}>"
    base = speaking(template=template)
    subject = replace(base, template=Template({"tone": "formal"}))
    subject.model.generation_config.repetition_penalty = 1.3
    made = circuit_of(subject, "a")
    made = replace(made, origin=replace(made.origin, model=base.identity))
    report = thinking_report(subject, "Sure.", made)
    assert 'Prompts are rendered with the template options {"tone":"formal"}.' in report.notes
    assert any(
        note.startswith("Of the checkpoint's generation settings these are switched off") for note in report.notes
    )
    [other] = [note for note in report.notes if "was made with" in note]
    assert other == 'The circuit \'a\' was made with the template options none, used with {"tone":"formal"}.'
    same = replace(made, origin=replace(made.origin, model=subject.identity))
    assert not [note for note in thinking_report(subject, "Sure.", same).notes if "was made with" in note]
