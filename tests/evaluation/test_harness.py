"""lm-evaluation-harness on the live steered model, from a task file with local data."""

import json
from dataclasses import replace

import pytest

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import FileError, OptionError, UnknownNameError
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.harness import check_tasks, read_task_file, run_tasks
from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.likelihood import continuation, log_likelihoods
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.export.export_circuit import export_circuit
from neurodial.generation.decoding import Decoding
from neurodial.intervention.scale import Scale
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
