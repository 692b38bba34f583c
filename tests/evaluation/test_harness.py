"""lm-evaluation-harness on the live steered model, from a task file with local data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import FileError, ModelMismatchError, OptionError, UnknownNameError
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.harness import check_tasks, read_task_file, run_tasks
from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.likelihood import continuation, log_likelihoods
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.export.export_circuit import export_circuit
from neurodial.generation.decoding import Decoding
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast

pytest.importorskip("lm_eval")

TASK = """task: tiny_questions
dataset_path: json
dataset_kwargs:
  data_files:
    test: questions.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - metric: acc
"""
QUESTIONS = [
    {"question": f"What is {n} and {n}?", "choices": [str(2 * n), str(3 * n), "none"], "answer": n % 3}
    for n in range(12)
]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "tiny.yaml").write_text(TASK)
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in QUESTIONS))
    return str(folder / "tiny.yaml")


def circuit_of(subject, dose=1.0):
    rows = [Row(Neuron(layer, None, index), 1.0, dose) for layer in range(2) for index in range(0, 24, 2)]
    return Circuit.of(rows, name="mine", origin=Origin(subject.identity))


def by_hand(subject, intervention):
    """Accuracy by our own log-likelihoods: the harness sums them over the choice, a space before it."""
    right = 0
    for row in QUESTIONS:
        passages = [continuation(subject, row["question"], f" {choice}") for choice in row["choices"]]
        totals = [found.total for found in log_likelihoods(subject, passages, under=intervention)]
        right += totals.index(max(totals)) == row["answer"]
    return right / len(QUESTIONS)


@pytest.mark.slow
def test_the_harness_measures_the_steered_model(task):
    subject = tiny_subject("qwen2", chat=False)
    options = HarnessOptions((task,), batch_size=4)
    plain = run_tasks(subject, None, options)[0]
    assert (plain.task, plain.measure, plain.n) == ("tiny_questions", "acc", 12)
    assert plain.value == pytest.approx(by_hand(subject, None))
    values = {plain.value}
    for dose in (-3.0, 2.0, 6.0):
        steered = Scale(circuit_of(subject, dose))
        found = run_tasks(subject, steered, options)[0].value
        assert found == pytest.approx(by_hand(subject, steered))
        values.add(found)
    assert len(values) > 1
    assert run_tasks(subject, None, replace(options, limit=5))[0].n == 5


@pytest.mark.slow
def test_tasks_are_rows_of_a_report(task, tmp_path):
    subject = tiny_subject()
    options = Evaluation(
        detectors=("length:1",),
        decoding=Decoding(max_new_tokens=2),
        neutral=0,
        perplexity=0,
        over_refusal=0,
        speed=False,
        harness=HarnessOptions((task,), limit=4),
    )
    contrast = Contrast.of(["Rob"], ["Bake"])
    settings = {"options": options, "folder": tmp_path / "report"}
    report = evaluate(subject, [Scale(circuit_of(subject))], contrast, **settings)
    for condition in report.conditions:
        found = condition.metrics["task:tiny_questions"]
        assert isinstance(found, Estimate)
        assert found.n == 4
    again = evaluate(subject, [Scale(circuit_of(subject))], contrast, **settings)
    assert again.conditions[1].metrics["task:tiny_questions"] == report.conditions[1].metrics["task:tiny_questions"]


@pytest.mark.slow
def test_an_exported_adapter_gives_the_same_log_likelihoods(task, tmp_path):
    from neurodial.model.load import load

    subject = tiny_subject()
    folder = tmp_path / "base"
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    base = load(folder)
    circuit = circuit_of(base)
    export_circuit(base, Scale(circuit), route="lora", output=tmp_path / "lora")
    adapted = load(folder, adapter=tmp_path / "lora")
    passages = [continuation(base, row["question"], f" {choice}") for row in QUESTIONS for choice in row["choices"]]
    hook = log_likelihoods(base, passages, under=Scale(circuit))
    exported = log_likelihoods(adapted, passages)
    plain = log_likelihoods(base, passages)
    # The same products in another order, in float32.
    assert [e.total for e in exported] == pytest.approx([h.total for h in hook], abs=1e-3)
    assert [p.total for p in plain] != pytest.approx([h.total for h in hook], abs=1e-1)
    options = HarnessOptions((task,))
    assert run_tasks(adapted, None, options)[0].value == run_tasks(base, Scale(circuit), options)[0].value


@pytest.mark.slow
def test_unknown_tasks_and_bad_files(tmp_path):
    with pytest.raises(UnknownNameError, match="mmlu"):
        check_tasks(["mmluu"])
    with pytest.raises(FileError):
        check_tasks([str(tmp_path / "none.yaml")])
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(FileError, match="no task file"):
        read_task_file(tmp_path / "list.yaml")
    check_tasks([])


@pytest.mark.parametrize("change", [{"limit": 0}, {"batch_size": 0}, {"fewshot": -1}])
def test_harness_options_that_make_no_sense(change):
    with pytest.raises(OptionError):
        HarnessOptions(("mmlu",), **change)


# ------------------------------------------------------------------------------------------- the harness's own command


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model on disk, and two circuits of it."""
    subject = tiny_subject("qwen2", chat=False)
    folder = tmp_path_factory.mktemp("model")
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    subject = load(folder)
    files = [circuit_of(subject, dose).write(folder / f"{dose}.circuit.json") for dose in (-3.0, 6.0)]
    return folder, [str(file) for file in files]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_harness_s_command_takes_circuits_and_dials(task, saved, monkeypatch, tmp_path):
    """The same accuracy as our log-likelihoods by hand. The harness reads its list of tasks first, which takes long."""
    from neurodial.cli.lm_eval import main

    folder, files = saved
    subject = load(folder)
    first, second = map(Circuit.read, files)
    plain = by_hand(subject, None)
    (low, high), expected = next(
        (dials, steered)
        for dials in ((0.5, 1.0), (1.0, 0.5), (2.0, 0.5), (1.0, 0.0))
        if (steered := by_hand(subject, Scale(first, dials[0]) + Scale(second, dials[1]))) != plain
    )
    arguments = f"pretrained={folder},circuit={'+'.join(files)},dial={low}+{high}"
    words = ["--model", "neurodial", "--model_args", arguments, "--tasks", task, "--output_path", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["neurodial-lm-eval", *words])
    monkeypatch.chdir(Path(task).parent)  # the harness's own command looks for data files from there
    assert main() == 0
    [written] = tmp_path.rglob("results*.json")
    results = json.loads(written.read_text(encoding="utf-8"))
    found = results["results"]["tiny_questions"]["acc,none"]
    assert found == pytest.approx(expected)
    assert [circuit["dial"] for circuit in results["config"]["circuits"]] == [low, high]
    assert results["config"]["model_digest"] == subject.identity.digest


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"circuit": "{0}+{0}", "dial": "1+2+3"}, OptionError, "There are 2 circuits and 3 dials"),
        ({"circuit": "{0}", "dial": "high"}, OptionError, "The dial is 'high'"),
        ({"circuit": "{0}", "dails": "1"}, UnknownNameError, "Did you mean dial"),
        ({"circuit": "{0}.json"}, FileError, "circuit.json.json can.t be read"),
    ],
)
def test_the_harness_s_model_refuses_what_makes_no_sense(arguments, error, said, saved):
    from neurodial.evaluation.harness_model import SteeredLM

    folder, (first, _) = saved
    with pytest.raises(error, match=said):
        SteeredLM(str(folder), **{name: value.format(first) for name, value in arguments.items()})


def test_a_circuit_of_another_model_is_refused(saved, tmp_path):
    from neurodial.evaluation.harness_model import SteeredLM

    other = circuit_of(tiny_subject("qwen2", seed=1, chat=False)).write(tmp_path / "other.circuit.json")
    with pytest.raises(ModelMismatchError):
        SteeredLM(str(saved[0]), circuit=str(other))


def test_the_harness_s_command_says_our_errors_in_one_line(monkeypatch, capsys):
    from lm_eval import __main__ as harness

    from neurodial.cli import lm_eval

    def refuse():
        raise OptionError("There are 2 circuits.", wanted="1")

    monkeypatch.setattr(harness, "cli_evaluate", refuse)
    assert lm_eval.main() == 1
    assert capsys.readouterr().err == "error: There are 2 circuits. Wanted: 1.\n"
