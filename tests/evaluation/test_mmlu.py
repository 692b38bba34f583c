"""MMLU under steering: against a naive scorer and the harness, from files and folders, and what is refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tests.subjects import circuit_of, shared

from neurodial.cli.main import main
from neurodial.errors import ContextLengthError, FileError, OptionError, PromptError
from neurodial.evaluation.choices import AskedChoices, choice_log_probs, encode
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.harness import read_task_file, run_tasks
from neurodial.evaluation.mmlu import answer_paper, letter_prompt, paper_of, text_prompt
from neurodial.evaluation.mmlu_data import LETTERS, QuestionSet, mmlu_set, read_mmlu
from neurodial.evaluation.mmlu_run import MEANS, SHARES, check_benchmarks
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.evaluation.questions import ChoiceQuestion
from neurodial.evaluation.run_rows import MeasureRow
from neurodial.evaluation.store import read_rows
from neurodial.generation.decoding import Decoding
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast

WORDS = ("tin", "a river", "nine", "old stones", "why", "green", "two pears", "on")
SUBJECTS = ("number_games", "short", "high_school_rivers")
WIDE = {"max_position_embeddings": 2048}


def question(subject, number, answer, choices=4):
    texts = tuple(f"{WORDS[(number * 3 + place) % len(WORDS)]} {number + place}" for place in range(choices))
    return {
        "subject": subject,
        "question": f" What {'then ' * (number % 4)}{number}? ",
        "choices": texts,
        "answer": answer,
    }


def rows_of(count, start=0):
    return [
        question(subject, start + number, "ABCD"[(number * 7 + place) % 4])
        for place, subject in enumerate(SUBJECTS)
        for number in range(count)
    ]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("mmlu")
    write(place / "test_9.jsonl", rows_of(3))
    write(place / "dev.jsonl", rows_of(5, start=50))
    return place


@pytest.fixture(scope="module")
def subject():
    return tiny_subject("qwen2", chat=False, **WIDE)


@torch.no_grad()
def one_by_one(subject, prompt, choice, intervention):
    """Oracle: one prompt and one choice in one pass, log-probabilities of the choice's tokens summed."""
    start, whole = (subject.tokenizer(text)["input_ids"] for text in (prompt, prompt + choice))
    with steer(subject, *([] if intervention is None else [intervention])):
        table = subject.model(torch.tensor([whole])).logits[0].log_softmax(dim=-1)
    return [float(table[place - 1, whole[place]]) for place in range(len(start), len(whole))]


def naive(subject, questions, intervention):
    """What `answer_paper` gives, by the oracle."""
    letters, letter, texts, per_character, text = [], [], [], [], []
    for one in questions.questions:
        prompt = letter_prompt(one, questions.examples[one.subject])
        found = [sum(one_by_one(subject, prompt, f" {name}", intervention)) for name in LETTERS[: len(one.choices)]]
        parts = [one_by_one(subject, text_prompt(one), f" {choice}", intervention) for choice in one.choices]
        letters.append(found.index(max(found)))
        letter.append(found[one.answer])
        sums = [sum(part) for part in parts]
        scaled = [total / len(choice) for total, choice in zip(sums, one.choices, strict=True)]
        texts.append(sums.index(max(sums)))
        per_character.append(scaled.index(max(scaled)))
        text.append(sums[one.answer] / len(parts[one.answer]))
    return letters, letter, texts, per_character, text


def test_many_at_once_is_one_by_one(folder, subject):
    """Every dial in one batch, questions sharing their examples: as each choice by itself in a plain pass."""
    questions = read_mmlu(str(folder), shots=2, limit=6)
    circuit = circuit_of(subject, 8, dose=2.0)
    each = [None, Scale(circuit, 1.0), Scale(circuit, -1.0)]
    results = answer_paper(subject, paper_of(subject, questions), each)
    for intervention, found in zip(each, results, strict=True):
        letters, letter, texts, per_character, text = naive(subject, questions, intervention)
        assert list(found.letters) == letters
        assert list(found.texts) == texts
        assert list(found.texts_per_character) == per_character
        # Sums of up to 20 float32 log-probabilities, each pass with its sums in another order.
        assert list(found.letter) == pytest.approx(letter, abs=1e-3)
        assert list(found.text) == pytest.approx(text, abs=1e-3)
    assert len({found.letter for found in results}) == 3
    small = answer_paper(subject, paper_of(subject, questions), each, budget=64)
    for first, second in zip(results, small, strict=True):
        assert first.letters == second.letters
        assert first.letter == pytest.approx(second.letter, abs=1e-3)


def test_the_prompts_are_the_classic_ones(folder):
    questions = read_mmlu(str(folder), shots=1)
    first = questions.questions[0]
    assert letter_prompt(first, questions.examples[first.subject]) == (
        "The following are multiple choice questions (with answers) about number games.\n\n"
        "What then then 50?\nA. two pears 50\nB. on 51\nC. tin 52\nD. a river 53\nAnswer: A\n\n"
        "What 0?\nA. tin 0\nB. a river 1\nC. nine 2\nD. old stones 3\nAnswer:"
    )
    assert text_prompt(first) == "Question: What 0?\nAnswer:"


HARNESS = """task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: one.jsonl
    dev: few.jsonl
test_split: test
fewshot_split: dev
fewshot_config:
  sampler: first_n
num_fewshot: {shots}
output_type: multiple_choice
description: "{description}"
doc_to_text: "{text}"
doc_to_choice: {choice}
doc_to_target: answer
metric_list:
  - metric: {metric}
"""
LETTER_TASK = {
    "task": "own_mmlu",
    "metric": "acc",
    "shots": 3,
    "description": "The following are multiple choice questions (with answers) about number games.\\n\\n",
    "text": "{{{{question.strip()}}}}\\nA. {{{{choices[0]}}}}\\nB. {{{{choices[1]}}}}\\nC. {{{{choices[2]}}}}\\nD. "
    "{{{{choices[3]}}}}\\nAnswer:",
    "choice": '["A", "B", "C", "D"]',
}
TEXT_TASK = {
    "task": "own_mmlu_continuation",
    "metric": "acc",
    "shots": 0,
    "description": "",
    "text": "Question: {{{{question.strip()}}}}\\nAnswer:",
    "choice": '"{{{{choices}}}}"',
}

SCALED_TASK = {**TEXT_TASK, "task": "own_mmlu_scaled", "metric": "acc_norm"}


def harness_task(place, task, test, dev):
    """A task file worded as the harness's own `mmlu` of one subject."""
    as_numbers = [[{**row, "answer": "ABCD".index(row["answer"])} for row in rows] for rows in (test, dev)]
    write(place / "one.jsonl", as_numbers[0])
    write(place / "few.jsonl", as_numbers[1])
    path = place / f"{task['task']}.yaml"
    path.write_text(
        HARNESS.format(**{key: str(value).replace("{{{{", "{{").replace("}}}}", "}}") for key, value in task.items()})
    )
    return str(path)


@pytest.mark.slow
def test_the_harness_gives_the_same(tmp_path, subject):
    pytest.importorskip("lm_eval")
    test = [question("number_games", number, "ABCD"[number * 5 % 4]) for number in range(12)]
    dev = [question("number_games", number, "ABCD"[number % 4]) for number in range(50, 55)]
    write(tmp_path / "test.jsonl", test)
    write(tmp_path / "dev.jsonl", dev)
    questions = read_mmlu(str(tmp_path / "test.jsonl"), shots=3)
    right = [one.answer for one in questions.questions]
    paper = paper_of(subject, questions)
    tasks = [harness_task(tmp_path, task, test, dev) for task in (LETTER_TASK, TEXT_TASK, SCALED_TASK)]
    seen = set()
    for dose in (0.0, 3.0, -2.0):
        intervention = Scale(circuit_of(subject, 12, dose=1.0), dose)
        [found] = answer_paper(subject, paper, [intervention])
        for task, given in zip(tasks, (found.letters, found.texts, found.texts_per_character), strict=True):
            value = run_tasks(subject, intervention, HarnessOptions((task,)))[0].value
            assert value == pytest.approx(sum(a == b for a, b in zip(given, right, strict=True)) / 12)
            seen.add(value)
    assert len(seen) > 1


def test_a_choice_may_have_any_tokens():
    """One token, several, one that begins another: every log-probability is read at its own place."""
    subject = shared()
    asked = [AskedChoices((256, 40, 41), ((50,), (51, 52), (51, 52, 53), (51, 60)), 0)]
    [found] = choice_log_probs(subject, asked)
    for choice, value in zip(asked[0].choices, found, strict=True):
        tokens = [*asked[0].prompt, *choice]
        with torch.no_grad():
            table = subject.model(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
        expected = sum(float(table[place - 1, tokens[place]]) for place in range(3, len(tokens)))
        assert value == pytest.approx(expected, abs=1e-3)
    with pytest.raises(PromptError, match="Nothing is scored"):
        encode(subject, ["a"], [["b", ""]])


SMALL = Evaluation(
    detectors=("length:1",),
    decoding=Decoding(max_new_tokens=2),
    answers=False,
    neutral=0,
    perplexity=0,
    over_refusal=0,
    margin="none",
    speed=False,
)


def evaluation(folder, **change):
    return replace(SMALL, harness=HarnessOptions((f"mmlu:{folder}",), fewshot=1, **change))


def test_every_dial_stands_in_the_report(folder, tmp_path, subject, monkeypatch):
    circuit = circuit_of(subject, 8, dose=2.0)
    scales = [Scale(circuit, dial=dial) for dial in (0.5, 1.0)]
    prompts, options = Contrast.of(["Rob"], ["Bake"]), evaluation(folder)
    report = evaluate(subject, scales, prompts, options=options, folder=tmp_path / "report")
    assert set(SHARES) | set(MEANS) <= set(report.conditions[2].metrics)
    questions = read_mmlu(str(folder), shots=1)
    right = [one.answer for one in questions.questions]
    for condition, found in zip(
        report.conditions, answer_paper(subject, paper_of(subject, questions), [None, *scales]), strict=True
    ):
        for name, given in {"mmlu": found.letters, "mmlu_texts": found.texts}.items():
            assert condition.metrics[name].value == sum(a == b for a, b in zip(given, right, strict=True)) / 9
        scaled = sum(a == b for a, b in zip(found.texts_per_character, right, strict=True)) / 9
        assert condition.metrics["mmlu_texts_per_character"].value == scaled
        # The same sums in batches of another shape: the control is asked in the same run.
        assert condition.metrics["mmlu_right_letter"].value == pytest.approx(sum(found.letter) / 9, abs=1e-3)
        assert condition.metrics["mmlu_right_text"].value == pytest.approx(sum(found.text) / 9, abs=1e-3)
        assert (condition.metrics["mmlu"].method, condition.metrics["mmlu"].n) == ("Wilson", 9)
    change = report.conditions[2].differences
    assert change["mmlu"].p_value is not None
    moved = (
        report.conditions[2].metrics["mmlu_right_letter"].value
        - report.conditions[0].metrics["mmlu_right_letter"].value
    )
    assert change["mmlu_right_letter"].estimate.value == pytest.approx(moved)
    assert abs(moved) > 1e-3
    said = "\n".join(report.notes)
    assert "9 questions of 3 subjects from test_9.jsonl, after 1 development questions" in said
    assert "by letters: the unsteered model is at chance" in said  # random weights
    assert "positive control: a random 10% of the neurons off" in said
    monkeypatch.setattr("neurodial.evaluation.mmlu_run.answer_paper", None)  # nothing is answered again
    again = evaluate(subject, scales, prompts, options=options, folder=tmp_path / "report")
    assert [condition.metrics["mmlu"] for condition in again.conditions] == [
        condition.metrics["mmlu"] for condition in report.conditions
    ]
    assert sum(row.measure == "mmlu" for row in read_rows(tmp_path / "report", MeasureRow)) == 4


def test_a_folder_goes_on_with_its_own_questions_only(tmp_path, subject):
    place = tmp_path / "data"
    write(place / "test.jsonl", rows_of(1))
    write(place / "dev.jsonl", rows_of(1, start=50))
    scales, prompts = [Scale(circuit_of(subject), dial=1.0)], Contrast.of(["Rob"], ["Bake"])
    run = {"options": evaluation(place), "folder": tmp_path / "report"}
    evaluate(subject, scales, prompts, **run)
    write(place / "test.jsonl", rows_of(1, start=2))
    with pytest.raises(FileError, match="other questions"):
        evaluate(subject, scales, prompts, **run)


def test_the_options_choose_the_questions(folder):
    def ask(**change):
        return mmlu_set(HarnessOptions((f"mmlu:{folder}",), **change))

    assert (len(ask().questions), ask().shots, ask(fewshot=0).examples["short"]) == (9, 5, ())
    few, other = ask(limit=4), ask(limit=4, seed=1)
    assert len(few.questions) == 4
    assert few.available == 9
    assert few.questions != other.questions
    assert few == ask(limit=4)
    assert few.digest != other.digest != ask(limit=4, seed=1, fewshot=2).digest
    assert mmlu_set(HarnessOptions(("arc_easy",))) is None


def test_a_folder_as_the_hub_keeps_it(folder, tmp_path):
    """Read by the library that reads the Hub, answers as numbers, one configuration of all subjects."""
    pytest.importorskip("datasets")
    place = tmp_path / "cais_mmlu"
    for name, source in (("test", "test_9"), ("dev", "dev")):
        rows = [json.loads(line) for line in (folder / f"{source}.jsonl").read_text().splitlines()]
        write(place / "all" / f"{name}.jsonl", [{**row, "answer": "ABCD".index(row["answer"])} for row in rows])
    card = "".join(f"  - split: {name}\n    path: all/{name}.jsonl\n" for name in ("test", "dev"))
    (place / "README.md").write_text(f"---\nconfigs:\n- config_name: all\n  data_files:\n{card}---\n")
    found, own = read_mmlu(str(place)), read_mmlu(str(folder))
    assert (found.questions, found.examples, found.digest) == (own.questions, own.examples, own.digest)
    with pytest.raises(PromptError, match=r"cais/mmlu.*can't be loaded"):
        read_mmlu(None)  # tests are offline


def test_fewer_examples_where_they_do_not_fit(folder):
    """A subject whose prompts are too long gets fewer; the record says how many."""
    questions = read_mmlu(str(folder), shots=5)
    small = tiny_subject("qwen2", chat=False, max_position_embeddings=400)
    paper = paper_of(small, questions)
    assert paper.fewer
    assert all(0 < count < 5 for count in paper.fewer.values())
    assert max(len(row) for one in paper.letters for row in one.rows) <= 400
    assert paper_of(tiny_subject("qwen2", chat=False, **WIDE), questions).fewer == {}
    tight = tiny_subject("qwen2", chat=False, max_position_embeddings=100)
    with pytest.raises(ContextLengthError):
        answer_paper(tight, paper_of(tight, questions), [None])


def refused(tmp_path, change, error, match, **settings):
    rows = rows_of(2)
    rows[1] = {key: value for key, value in {**rows[1], **change}.items() if value is not None}
    path = write(tmp_path / "test.jsonl", rows)
    write(tmp_path / "dev.jsonl", rows_of(5, start=50))
    with pytest.raises(error, match=match):
        read_mmlu(str(path), **settings)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"choices": None}, "line 2 lacks choices"),
        ({"answer": None, "subject": None}, "lacks subject, answer"),
        ({"answer": "E"}, "the answer is 'E'"),
        ({"answer": "AB"}, "the answer is 'AB'"),
        ({"answer": 4}, "the answer is 4"),
        ({"answer": True}, "the answer is True"),
        ({"choices": "A, B"}, "the choices are 'A, B'"),
        ({"choices": ["one"]}, "the choices are"),
        ({"choices": [1, 2, 3, 4]}, "the choices are"),
        ({"question": " "}, "is no text"),
        ({"subject": 7}, "is no text"),
        ({"subject": "unheard_of"}, "0 development questions of 'unheard_of'"),
    ],
)
def test_bad_rows_are_refused(tmp_path, change, match):
    refused(tmp_path, change, PromptError, match)


def test_bad_places_are_refused(tmp_path, folder):
    for place, match in (
        (tmp_path / "none.jsonl", "no file of questions"),
        (tmp_path / "none", "no file of questions"),
        (write(tmp_path / "a" / "test.jsonl", rows_of(1)), "no development questions beside it"),
    ):
        with pytest.raises(FileError, match=match):
            read_mmlu(str(place))
    assert len(read_mmlu(str(tmp_path / "a"), shots=0).questions) == 3
    write(tmp_path / "a" / "test_2.jsonl", rows_of(1))
    with pytest.raises(FileError, match="several files"):
        read_mmlu(str(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "test.jsonl").write_text("\n")
    with pytest.raises(FileError, match="holds no questions"):
        read_mmlu(str(tmp_path / "b"), shots=0)
    with pytest.raises(OptionError, match="6 development questions"):
        read_mmlu(str(folder), shots=6)
    with pytest.raises(OptionError, match="names no data"):
        check_benchmarks(HarnessOptions(("mmlu:",)))
    with pytest.raises(OptionError, match="twice"):
        check_benchmarks(HarnessOptions(("mmlu", f"mmlu:{folder}")))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("task: empty\ndoc_to_text: x\n", "names no data"),
        ("task: empty\ndataset_path: json\n", "names no data"),
        ("task: gone\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: gone.jsonl\n", "is not there"),
    ],
)
def test_task_files_without_data_are_refused(tmp_path, text, match):
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=match):
        read_task_file(path)


def test_the_command_refuses_before_it_loads_a_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "neurodial.cli.model_options.ModelOptions.load", lambda *_, **__: pytest.fail("a model was loaded")
    )
    command = [
        "evaluate",
        "demo",
        "--behaviour",
        "refusal",
        "--against",
        "caa",
        "-o",
        str(tmp_path / "out"),
        "--tasks",
        f"mmlu:{tmp_path}/no.jsonl",
    ]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    assert "no file of questions" in capsys.readouterr().err


def test_letters_as_likely_as_each_other_are_counted(folder):
    """The first of them is the answer; the record says on how many questions that was so."""
    even = tiny_subject("qwen2", chat=False, **WIDE)
    with torch.no_grad():
        even.model.get_output_embeddings().weight.zero_()
    questions = read_mmlu(str(folder), shots=0)
    [found] = answer_paper(even, paper_of(even, questions), [None])
    assert (found.ties, set(found.letters)) == (9, {0})
    assert found.letter[0] == pytest.approx(2 * math.log(1 / 260), abs=1e-4)  # two byte tokens of 260
    assert answer_paper(shared("qwen2"), paper_of(shared("qwen2"), questions), [None])[0].ties == 0


def test_what_was_drawn_is_said(folder):
    drawn = replace(read_mmlu(str(folder), limit=2, seed=3), shots=0)
    assert isinstance(drawn, QuestionSet)
    assert drawn.subjects == tuple(sorted({one.subject for one in drawn.questions}))
    assert isinstance(drawn.questions[0], ChoiceQuestion)
    assert math.isclose(sum(1 / len(one.choices) for one in drawn.questions) / 2, 0.25)
