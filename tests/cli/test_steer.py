"""`neurodial steer` and `demo`: arguments, files, stdin, chat, and what bad input gets."""

import io
import json
from dataclasses import replace

import pytest
from tests.subjects import circuit_of

from neurodial.cli.main import app, main
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.model.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model in a local folder."""
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def circuit(folder, tmp_path_factory):
    """A circuit of that model, in a file."""
    return circuit_of(load(folder)).write(tmp_path_factory.mktemp("circuit") / "some.circuit.json")


def run(capsys, *arguments: object):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


def fail(capsys, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    return int(stopped.value.code or 0), capsys.readouterr().err


def test_json_holds_the_library_s_own_answers(folder, circuit, capsys):
    out = run(capsys, "steer", folder, circuit, "--dial", "-1,2", "--max-new-tokens", 4, "--json", "Hello", "You")
    lines = [json.loads(line) for line in out.splitlines()]
    subject = load(folder)
    from neurodial.circuit.file import read_circuit

    decoding = Decoding(max_new_tokens=4)
    for line in lines:
        sides = [None, *(Scale(read_circuit(circuit), dial) for dial in (-1.0, 2.0))]
        expected = [generate(subject, [line["prompt"]], under=side, decoding=decoding)[0].text for side in sides]
        assert [line["unsteered"], *(side["text"] for side in line["steered"])] == expected
    assert [line["prompt"] for line in lines] == ["Hello", "You"]
    assert len({lines[0]["unsteered"], *(side["text"] for side in lines[0]["steered"])}) > 1


def test_the_model_alone_answers_without_a_circuit(folder, circuit, capsys):
    out = run(capsys, "steer", folder, "--unsteered", "--max-new-tokens", 4, "--json", "Hello", "You")
    lines = [json.loads(line) for line in out.splitlines()]
    expected = [answer.text for answer in generate(load(folder), ["Hello", "You"], decoding=Decoding(max_new_tokens=4))]
    assert [line["unsteered"] for line in lines] == expected
    assert [line["steered"] for line in lines] == [[], []]
    code, error = fail(capsys, "steer", folder, "--unsteered", "-c", circuit, "Hello")
    assert code == 1
    assert "--unsteered came with a circuit" in error


def test_two_circuits_with_dials_of_their_own_add_up(folder, circuit, capsys):
    options = ["--max-new-tokens", 4, "--json", "Hello"]
    both = run(capsys, "steer", folder, "-c", f"a={circuit}@1.5", "-c", f"b={circuit}@0.5", *options)
    one = run(capsys, "steer", folder, circuit, "--dial", 2, *options)
    assert json.loads(both)["steered"][0]["text"] == json.loads(one)["steered"][0]["text"]


def test_when_and_sampling_and_system_change_the_answer(folder, circuit, capsys):
    def answer(*options: object):
        out = run(capsys, "steer", folder, circuit, "--dial=3", "--max-new-tokens", 6, "--json", *options, "Hello")
        return json.loads(out)["steered"][0]["text"]

    plain = answer()
    assert answer("--when", "prompt") != plain
    assert answer("--system", "Be kind.") != plain
    sampled = answer("--temperature", "5", "--seed", "1")
    assert sampled == answer("--temperature", "5", "--seed", "1")
    assert sampled != answer("--temperature", "5", "--seed", "2")


def test_prompts_come_from_a_file_or_from_stdin(folder, circuit, capsys, monkeypatch, tmp_path):
    listed = tmp_path / "prompts.txt"
    listed.write_text("Hello\n\nYou\n")
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "Hello"}\n{"prompt": "You"}\n')
    options = ["--max-new-tokens", 2, "--json"]
    from_text = run(capsys, "steer", folder, circuit, "--file", listed, *options)
    assert run(capsys, "steer", folder, circuit, "--file", rows, *options) == from_text
    for flags in ([], ["--file", "-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello\nYou\n"))
        assert run(capsys, "steer", folder, circuit, *options, *flags) == from_text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", 'id,prompt,label\n1,"Hello, you",safe\n2,You,unsafe\n'),
        ("p.JSON", '[\n {"prompt": "Hello, you"},\n {"prompt": "You"}\n]'),
        ("p.tsv", "Question\nHello, you\nYou\n"),
        ("-", '{"text": "Hello, you"}\n{"text": "You"}\n'),
    ],
)
def test_a_table_or_a_list_is_read_as_prompts(folder, circuit, capsys, monkeypatch, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    file = name if name == "-" else tmp_path / name
    out = run(capsys, "steer", folder, circuit, "--file", file, "--max-new-tokens", 2, "--json")
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["Hello, you", "You"]


def test_a_chat_in_a_file_is_answered_as_one(folder, circuit, capsys, tmp_path):
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": chat}))
    options = ["--max-new-tokens", 6, "--dial=3", "--json"]
    line = json.loads(run(capsys, "steer", folder, circuit, "--file", tmp_path / "p.jsonl", *options))
    told = json.loads(run(capsys, "steer", folder, circuit, "--system", "Be kind.", *options, "Hello"))
    assert line == {**told, "prompt": chat}


def test_tables_show_both_sides(folder, circuit, capsys):
    out = run(capsys, "steer", folder, circuit, "--max-new-tokens", 2, "Hello")
    assert "unsteered" in out
    assert "dial 1" in out


def test_a_chat_remembers_and_turns_the_dial(folder, circuit, capsys, monkeypatch):
    typed = iter(["Hello", "/dial nonsense", "/dial 2", "Again", "/reset", "Hello", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(typed))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    app(
        ["steer", str(folder), str(circuit), "--max-new-tokens", "2"],
        exit_on_error=False,
        result_action="return_value",
    )
    captured = capsys.readouterr()
    assert captured.out.count("unsteered") == 3
    assert "dial 2" in captured.out
    assert "could not convert" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["steer", "nowhere"], "No circuit is given"),
        (["steer", "nowhere", "missing.circuit.json", "Hi"], "missing.circuit.json can't be read"),
        (["steer", "nowhere", "CIRCUIT", "--dial", "high", "Hi"], "The dials are 'high'"),
        (["steer", "nowhere", "CIRCUIT@low", "Hi"], "The dial of"),
        (["steer", "nowhere", "CIRCUIT", "Hi"], "There is no model 'nowhere'"),
        (["steer", "nowhere", "CIRCUIT", "--temperature=-1", "Hi"], "The temperature is -1"),
        (["steer", "nowhere", "CIRCUIT", "--file", "none.txt"], "none.txt can't be read"),
        (["steer", "nowhere", "-c", "CIRCUIT", "-c", "CIRCUIT", "Hi"], "different names"),
        (["demo", "-o", "OTHER"], "holds other files"),
        (["demo", "-o", "CIRCUIT"], "is a file"),
    ],
)
def test_bad_input_is_one_line_of_words(arguments, words, circuit, capsys, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("precious")
    named = [text.replace("CIRCUIT", str(circuit)).replace("OTHER", str(other)) for text in arguments]
    code, err = fail(capsys, *named)
    assert code == 1
    assert words in " ".join(err.split())
    assert "Traceback" not in err
    assert (other / "mine.txt").read_text() == "precious"


def test_a_circuit_of_another_model_needs_force(circuit, capsys, tmp_path):
    tiny_model(seed=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    options = ["--max-new-tokens", 2, "--json", "Hello"]
    code, err = fail(capsys, "steer", tmp_path, circuit, *options)
    assert code == 1
    assert "weights (digest" in " ".join(err.split())
    assert json.loads(run(capsys, "steer", tmp_path, circuit, "--force", *options))["prompt"] == "Hello"


def test_the_demo_writes_its_files_and_again_over_its_own(folder, capsys, tmp_path, monkeypatch):
    from neurodial.evaluation import demonstration
    from neurodial.evaluation.options import Evaluation

    options = Evaluation(
        prompts=3,
        neutral=2,
        over_refusal=0,
        perplexity=2,
        divergence_tokens=4,
        decoding=Decoding(max_new_tokens=2, batch_size=8),
    )
    monkeypatch.setattr(demonstration, "SHORT", replace(demonstration.SHORT, options=options))
    out = tmp_path / "demo"
    text = run(capsys, "demo", "--model", folder, "--short", "-o", out)
    assert "On held-out prompts" in text
    assert "no clear difference from the control" in " ".join(text.split())
    names = {path.name for path in out.iterdir()}
    assert {"cna.circuit.json", "demo.json", "rows", "report.html", "report.json"} <= names
    figures = json.loads((out / "report.json").read_text())
    assert figures["format"] == "neurodial.report"
    assert figures["arms"][0]["metrics"]["rate:refusal"]["n"] == 3
