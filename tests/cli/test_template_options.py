"""Options of the chat template on the command line: they change what is rendered, and stand in every record."""

import json

import pytest
from tests.subjects import circuit_of

import neurodial as nd
from neurodial.cli.main import app, main
from neurodial.cli.model_options import parse_template_options
from neurodial.errors import OptionError
from neurodial.model.tiny import tiny_model, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
OFF = ("--template-option", "enable_thinking=false")
PROMPTS = "".join(
    json.dumps({"positive": f"harm {split} {n}", "negative": f"help {split} {n}", "split": split}) + "\n"
    for split in ("discovery", "development", "test")
    for n in range(3)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def circuit(folder, tmp_path_factory):
    return circuit_of(nd.load(folder)).write(tmp_path_factory.mktemp("circuit") / "some.circuit.json")


def run(capsys, *arguments):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr()


def failure(capsys, *arguments):
    with pytest.raises(SystemExit):
        main(list(map(str, arguments)))
    return " ".join(capsys.readouterr().err.split())


def test_discover_renders_with_the_options_and_records_them(folder, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text(PROMPTS, encoding="utf-8")
    asked = ("discover", folder, "-b", tmp_path / "p.jsonl", "--universal", "none", "--count", 3, "--json")
    plain = json.loads(run(capsys, *asked, "-o", tmp_path / "a.circuit.json").out)
    quiet = json.loads(run(capsys, *asked, *OFF, "-o", tmp_path / "b.circuit.json").out)
    assert plain["neurons"] != quiet["neurons"]
    assert "setup" not in plain["model"]
    assert quiet["model"]["setup"] == {"template_options": {"enable_thinking": False}}


def test_steer_says_under_which_options_a_circuit_was_made(folder, circuit, capsys):
    asked = ("steer", folder, circuit, "--max-new-tokens", 4, "--json", "Hello")
    plain, quiet = (run(capsys, *asked, *more) for more in ((), OFF))
    first, second = json.loads(plain.out), json.loads(quiet.out)
    assert first["unsteered"] != second["unsteered"]
    assert "notes" not in first
    assert second["notes"][-1] == (
        "The circuit 'circuit' was made with the template options none, used with {\"enable_thinking\":false}."
    )
    assert "made with the template options none" in " ".join(quiet.err.split())


def test_thinking_is_shown_apart_and_markers_can_be_named(folder, circuit, capsys):
    first = json.loads(run(capsys, "steer", folder, circuit, "--max-new-tokens", 8, "--json", "Hello").out)["unsteered"]
    mark = first[3]
    asked = ("steer", folder, circuit, "--max-new-tokens", 8, "--json", "--thinking-markers", "never", mark, "Hello")
    line = json.loads(run(capsys, *asked).out)
    assert "thinking" not in json.loads(run(capsys, *asked[:-4], "Hello").out)
    place = first.rindex(mark)
    assert line["unsteered"] == first[place + 1 :].strip()
    assert line["thinking"][0].replace("\n", "") == first[:place].replace(mark, "").strip()
    shown = run(capsys, *(part for part in asked if part != "--json")).out
    assert line["thinking"][0].split()[0][:2] in shown


def test_steering_is_kept_to_a_part(folder, circuit, capsys):
    asked = ("steer", folder, circuit, "--max-new-tokens", 12, "--dial", 3, "--json", "Hello")
    plain = json.loads(run(capsys, *asked, "--when", "generated").out)
    mark = plain["unsteered"][0]  # steering what is generated leaves the first token: all of the answer is thinking
    steered = {}
    for when in ("generated", "thinking", "answer"):
        line = json.loads(run(capsys, *asked, "--thinking-markers", mark, "never said", "--when", when).out)
        assert line["unsteered"] == ""
        steered[when] = line["thinking"]
    assert steered["thinking"] == steered["generated"]
    assert steered["thinking"][1] != steered["thinking"][0] == steered["answer"][1]
    assert "Nothing marks tools" in failure(capsys, *asked, "--when", "tools")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("enable_thinkin=false", "The chat template has no variable 'enable_thinkin'"),
        ("enable_thinking", "Wanted: NAME=VALUE, such as enable_thinking=false"),
        ("messages=[]", "'messages' can't be set"),
        ("enable_thinking=False", "Wanted: JSON: enable_thinking=false"),
    ],
)
def test_options_that_would_do_nothing_are_refused(folder, circuit, capsys, option, message):
    assert message in failure(capsys, "steer", folder, circuit, "--template-option", option, "Hello")


def test_values_are_json_or_texts():
    given = ["a=false", "b=3", 'c=["x"]', "d=low", 'e="true"', "f=x=y"]
    assert parse_template_options(given) == {"a": False, "b": 3, "c": ["x"], "d": "low", "e": "true", "f": "x=y"}
    with pytest.raises(OptionError, match="given twice"):
        parse_template_options(["a=1", "a=2"])
