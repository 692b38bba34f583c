"""`neurodial condition`, and what the other commands do with a circuit that has one."""

import json
from dataclasses import replace

import pytest
from tests.planting import TEXTS, holding, negative, positive

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.file import read_circuit
from neurodial.circuit.site import Neuron
from neurodial.cli.main import app, main
from neurodial.errors import OptionError
from neurodial.evaluation.harness import run_tasks
from neurodial.evaluation.options import HarnessOptions
from neurodial.model.load import load


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model whose planted neuron tells the sides apart, a prompt set, and a circuit."""
    folder = tmp_path_factory.mktemp("condition")
    made = holding("llama")
    made.model.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    subject = load(folder / "model")
    rows = [
        {"split": split, "positive": one, "negative": other}
        for split, part in (("discovery", TEXTS[:2]), ("development", TEXTS[2:4]), ("test", TEXTS[4:]))
        for one, other in zip(positive(part), negative(part), strict=True)
    ]
    (folder / "shout.jsonl").write_text("\n".join(map(json.dumps, rows)))
    neurons = [Row(Neuron(1, None, 5), 1.0, 1.0), Row(Neuron(0, None, 2), 0.5, 1.0)]
    circuit = Circuit.of(neurons, name="shout", origin=Origin(model=subject.identity))
    circuit.write(folder / "shout.circuit.json")
    return folder


@pytest.fixture
def conditioned(place, capsys):
    target = place / "only.circuit.json"
    if not target.exists():
        run(
            capsys,
            "condition",
            place / "model",
            place / "shout.circuit.json",
            "-b",
            place / "shout.jsonl",
            "-o",
            target,
        )
    return target


def run(capsys, *arguments: object):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


def fail(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit):
        main(list(map(str, arguments)))
    return capsys.readouterr().err


def test_the_condition_stands_in_the_file_with_its_rates(place, capsys):
    asked = ("condition", place / "model", place / "shout.circuit.json", "-b", place / "shout.jsonl")
    options = ("--reading", "mean", "--false-positive-rate", 0.5)
    out = " ".join(run(capsys, *asked, "-o", place / "said.circuit.json", *options).split())
    found = read_circuit(place / "said.circuit.json").condition
    assert (found.reading, found.false_positive_rate) == ("mean", 0.5)
    assert (found.positive.holds, found.positive.prompts, found.negative.prompts) == (2, 2, 2)
    assert f"acts where: {found.text}" in out
    assert "acts on 100% of its side (95 % 34% to 100%, n = 2" in out
    assert f"acts only where: {found.text}" in " ".join(run(capsys, "show", place / "said.circuit.json").split())
    assert json.loads((place / "said.circuit.json").read_text())["version"] == 2
    assert "exists already" in fail(capsys, *asked, "-o", place / "said.circuit.json")


def test_steer_leaves_other_prompts_as_they_are_and_says_so(place, conditioned, capsys):
    texts = [positive()[-1], negative()[-1]]
    asked = ("--dial", 4, "--max-new-tokens", 4)
    lines = run(capsys, "steer", place / "model", conditioned, *asked, "--json", *texts).splitlines()
    on, off = map(json.loads, lines)
    assert (on["acts"], off["acts"]) == ({"shout": True}, {"shout": False})
    assert off["steered"][0]["text"] == off["unsteered"]
    subject, circuit = load(place / "model"), read_circuit(place / "shout.circuit.json")
    decoding = nd.Decoding(max_new_tokens=4)
    [wanted] = nd.generate(subject, texts[:1], under=nd.Scale(circuit, 4.0), decoding=decoding)
    assert on["steered"][0]["text"] == wanted.text != on["unsteered"]
    everywhere = run(capsys, "steer", place / "model", conditioned, *asked, "--condition", "none", "--json", texts[1])
    assert "acts" not in json.loads(everywhere)
    assert json.loads(everywhere)["steered"][0]["text"] != off["unsteered"]
    plain = place / "shout.circuit.json"
    borrowed = run(capsys, "steer", place / "model", plain, *asked, "--condition", conditioned, "--json", texts[1])
    assert json.loads(borrowed)["acts"] == {"shout": False}
    assert "does not act" in run(capsys, "steer", place / "model", conditioned, *asked, texts[1])
    assert "has no condition" in fail(capsys, "steer", place / "model", plain, "--condition", plain, texts[0])


def test_files_that_would_act_everywhere_are_refused(place, conditioned, capsys, tmp_path):
    for arguments in (
        ("export", place / "model", conditioned, "-o", tmp_path / "out"),
        ("convert", conditioned, tmp_path / "out.csv"),
    ):
        said = fail(capsys, *arguments)
        assert "'shout' acts only on prompts on which a condition holds (direction after block " in said
        assert "neurodial serve" in said
        assert "--condition none" in said
    asked = ("-o", tmp_path / "out", "--dial", 0.1, "--condition", "none")
    run(capsys, "export", place / "model", conditioned, *asked)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_evaluate_says_where_the_circuit_acted(place, conditioned, capsys, tmp_path):
    asked = (
        *("-b", place / "shout.jsonl", "--detectors", "regex:!", "--margin", "none", "--neutral", 2, "--no-speed"),
        *("--over-refusal", 0, "--perplexity", 0, "--questions", 0, "--max-new-tokens", 4, "--json"),
    )
    report = json.loads(run(capsys, "evaluate", place / "model", conditioned, *asked, "-o", tmp_path / "report"))
    [note] = [note for note in report["notes"] if "acts only where" in note]
    assert "on 2 of 2 (behaviour), 0 of 2 (opposite)" in note
    answers = [json.loads(line) for line in (tmp_path / "report" / "generations.jsonl").read_text().splitlines()]
    by_key = {(row["arm"], row["set"], row["index"]): row["answer"] for row in answers if "arm" in row}
    assert by_key
    steered = {key[1:]: text for key, text in by_key.items() if key[0] != "unsteered"}
    plain = {key[1:]: text for key, text in by_key.items() if key[0] == "unsteered"}
    assert all(steered[key] == plain[key] for key in steered if key[0] == "opposite")


def test_a_harness_that_marks_no_prompts_is_refused(place, conditioned):
    scale = nd.Scale(read_circuit(conditioned))
    with pytest.raises(OptionError, match="does not say where its prompts end"):
        run_tasks(load(place / "model"), scale, HarnessOptions(("arc_easy",)))


def test_a_circuit_of_another_model_is_refused(place, capsys, tmp_path):
    circuit = read_circuit(place / "shout.circuit.json")
    assert circuit.origin.model is not None
    other = replace(circuit, origin=Origin(model=replace(circuit.origin.model, digest="0" * 64)))
    other.write(tmp_path / "other.circuit.json")
    said = fail(
        capsys,
        *("condition", place / "model", tmp_path / "other.circuit.json", "-b", place / "shout.jsonl"),
        *("-o", tmp_path / "out.circuit.json"),
    )
    assert "was made on" in said
