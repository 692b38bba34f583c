"""The commands that find, show and compare circuits: what they print, and what bad input gets."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import neurodial as nd
from neurodial.circuit.circuit import Row
from neurodial.circuit.file import circuit_json
from neurodial.cli import main as command_line
from neurodial.cli.main import COMMANDS, SUMMARIES, app, main
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.prompts.behaviours import behaviour_names

SOURCE = Path(__file__).resolve().parents[2] / "src"
QUICK = ["--universal", "none", "--count", "6", "--folds", "0"]
ROWS = [{"positive": f"harm {n}, please?", "negative": f"help {n}, please?", "split": "discovery"} for n in range(6)]


# ------------------------------------------------------------------------------------------- what the tests stand on


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model in a local folder."""
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """A user's own prompts."""
    path = tmp_path_factory.mktemp("prompts") / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def found(model, prompts):
    """What the library finds."""
    method = nd.CNA(universal=None, select=nd.Count(6))
    return nd.discover(nd.load(model), nd.PairSet.read(str(prompts)).discovery, method=method, name="mine")


@pytest.fixture(scope="module")
def circuit(found, tmp_path_factory):
    """The same, in a file."""
    return found.write(tmp_path_factory.mktemp("circuit") / "mine.circuit.json")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model is too late for what a look at the arguments shows."""

    def load(*args, **kwargs):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("neurodial.model.load.load", load)


def run(capsys, *arguments: object) -> str:
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return str(capsys.readouterr().out)


def fail(capsys, *arguments: object) -> tuple[int, str]:
    """Exit code and the error: one line that begins so, after which nothing follows."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    *before, last = captured.err.rstrip("\n").split("\n")
    assert last.startswith("error: "), captured.err
    assert not any(line.startswith("error") for line in before)
    assert "Traceback" not in captured.err
    return int(stopped.value.code or 0), last


def flat(text: str) -> str:
    """Text as it was before it was folded to the width of the page."""
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------- the command line itself


def test_the_overview_names_every_command(capsys):
    overview = run(capsys, "--help")
    assert set(COMMANDS) == set(SUMMARIES)
    assert all(name in overview for name in COMMANDS)
    assert run(capsys) == overview
    assert run(capsys, "--version").strip() == nd.__version__


def test_help_is_there_for_every_command_and_loads_nothing_heavy():
    """In a process of its own, where nothing is loaded yet."""
    heavy = {"torch", "transformers", "pydantic", "numpy", "scipy", "matplotlib", "peft"}
    code = f"""
import contextlib, io, sys
from neurodial.cli.main import COMMANDS, app
for name in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        app([name, "--help"], result_action="return_value")
    assert "Usage: neurodial " + name in text.getvalue(), name
    assert not set(sys.modules) & {heavy!r}, (name, sorted(set(sys.modules) & {heavy!r}))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert result.stderr == ""
    assert result.returncode == 0


def test_verbose_lets_other_libraries_speak_and_is_no_argument(capsys, monkeypatch):
    monkeypatch.setenv("NEURODIAL_VERBOSE", "0")
    for typed, state in ((["behaviours", "--json"], "0"), (["behaviours", "--verbose", "--json"], "1")):
        with pytest.raises(SystemExit):
            main(typed)
        assert json.loads(capsys.readouterr().out), "the command itself is the same"
        assert os.environ["NEURODIAL_VERBOSE"] == state


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def processor_seconds(*arguments: str) -> float:
    """Processor time of a fresh interpreter: what others do on the machine counts less than on a clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, env=environment(), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_quick():
    """Under 0.3 s, best of three; on a slow machine, not much more than the command-line library alone takes."""
    took = min(processor_seconds("-m", "neurodial.cli.main", "--help") for _ in range(3))
    if took >= 0.3:
        alone = "import cyclopts; cyclopts.App(name='x')(['--help'], result_action='return_value')"
        assert took < 1.5 * min(processor_seconds("-c", alone) for _ in range(3)) + 0.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["discovr"], 'Unknown command "discovr"'),
        (["discover"], "requires an argument"),
        (["discover", "demo"], "--behaviour requires an argument"),
        (["discover", "demo", "-b", "refusal", "--score", "best"], 'Choose from: "delta", "standardised", "auroc"'),
        (["discover", "demo", "-b", "refusal", "--count", "many"], 'unable to convert "many" into int'),
        (["discover", "demo", "-b", "refusal", "--frction", "0.1"], "Unknown option"),
        (["show"], "requires an argument"),
        (["compare", "one.circuit.json"], "requires an argument"),
        (["behaviours", "refusal", "--count", "few"], 'unable to convert "few" into int'),
    ],
)
def test_what_is_typed_wrongly_gets_code_2(capsys, no_model, arguments, said):
    code, error = fail(capsys, *arguments)
    assert code == 2
    assert said in error
    assert error.endswith("See --help.")


def test_stopping_by_hand_is_no_crash(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "app", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stopped; nothing was written\n"


def test_a_full_device_is_said_in_words(monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")

    monkeypatch.setattr(command_line, "app", full)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "error: The device is out of memory: CUDA out of memory. Tried to allocate 2.00 GiB. Wanted:"
    )
    assert "--batch-size" in said
    assert "More lines" not in said


def test_other_runtime_errors_are_not_hidden(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(command_line, "app", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main([])


def test_a_reader_that_stops_early_is_no_crash():
    command = [sys.executable, "-m", "neurodial.cli.main", "behaviours", "refusal", "--count", "60", "--json"]
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        result = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, env=environment(), check=False)
    finally:
        os.close(write_end)
    assert result.stderr == b""
    assert result.returncode == 0


# ------------------------------------------------------------------------------------------- behaviours


def test_behaviours_are_listed(capsys):
    text = run(capsys, "behaviours")
    assert all(name in text for name in behaviour_names())
    listed = json.loads(run(capsys, "behaviours", "--json"))
    assert [row["name"] for row in listed] == behaviour_names()
    assert all(row["title"] and row["description"] for row in listed)


def test_a_behaviour_is_previewed(capsys):
    text = flat(run(capsys, "behaviours", "terse"))
    assert "Terse answers" in text
    assert "margin: answer; detector: length:short; rate measured on: positive prompts" in text
    value = json.loads(run(capsys, "behaviours", "terse", "--count", "3", "--json"))
    pairs = nd.PairSet.read("terse")
    assert (value["name"], value["hash"]) == ("terse", pairs.hash)
    assert value["splits"]["test"] == {"positive": len(pairs.test.positive), "negative": len(pairs.test.negative)}
    assert [row["positive"] for row in value["preview"]] == [e.prompt for e in pairs.discovery.positive[:3]]
    assert json.loads(run(capsys, "behaviours", "terse", "--count", "0", "--json"))["preview"] == []


def test_the_users_own_prompts_are_previewed_as_they_are(capsys, here):
    """What looks like markup is text."""
    (here / "mine.toml").write_text(
        'name = "[bold]mine"\ntitle = "[/red] :smile:"\ndescription = "[x]"\ndetector = "[y]"\n'
        'positive = ["[/INST] one :smile:"]\nnegative = ["[bold]two[/bold]"]\n'
    )
    text = flat(run(capsys, "behaviours", "mine.toml"))
    for part in ("[bold]mine", "[/red] :smile:", "[x]", "[y]", "[/INST] one :smile:", "[bold]two[/bold]"):
        assert part in text


# ------------------------------------------------------------------------------------------- discover


def test_discover_writes_what_the_library_finds(capsys, here, model, prompts, found):
    text = run(capsys, "discover", model, "-b", prompts, "-o", "out/a.circuit.json", *QUICK[:4])
    written = nd.Circuit.read("out/a.circuit.json")
    assert written.rows == found.rows
    assert written.stability == found.stability
    assert written.name == "mine"
    assert written.origin.model is not None
    assert written.origin.model.label == str(model)
    assert "mine: 6 neurons of 48 (12.500%); dial 1 means remove" in flat(text)
    assert "6 positive, 6 negative" in flat(text)
    assert "of the neurons are chosen again" in flat(text)


def test_two_lists_of_prompts_are_a_behaviour(capsys, here, model, prompts):
    (here / "p.txt").write_text("".join(f"harm {n}, please\n" for n in range(15)))
    (here / "n.csv").write_text("id;Prompt\n" + "".join(f"{n};help {n}, please\n" for n in range(15)))
    run(capsys, "discover", model, "--positive", "p.txt", "--negative", "n.csv", *QUICK)
    circuit = nd.Circuit.read("p-against-n.circuit.json")
    pairs = nd.PairSet.of([f"harm {n}, please" for n in range(15)], [f"help {n}, please" for n in range(15)])
    assert circuit.origin.prompts["hash"] == pairs.discovery.hash
    value = json.loads(run(capsys, "behaviours", "--positive", "p.txt", "--negative", "n.csv", "--json"))
    assert value["hash"] == pairs.hash
    for options, said in (
        (["--positive", "p.txt"], "--positive came without --negative"),
        (["--negative", "p.txt"], "--negative came without --positive"),
        (["-b", prompts, "--positive", "p.txt", "--negative", "n.csv"], "one of the two"),
        (["--positive", "p.txt", "--negative", "p.txt"], "both sides"),
    ):
        code, error = fail(capsys, "discover", model, *options)
        assert (code, said in flat(error)) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        ["discover", "demo"],
        ["evaluate", "demo", "--against", "random", "-o", "out"],
        ["study", "layers", "demo", "-o", "out"],
        ["audit", "demo"],
        ["behaviours"],
    ],
)
def test_every_command_that_takes_a_behaviour_takes_two_lists(capsys, here, no_model, command):
    (here / "p.txt").write_text("Be bold\nBe loud\n")
    code, error = fail(capsys, *command, "--positive", "p.txt", "--negative", "p.txt")
    assert (code, "2 prompts are on both sides" in flat(error)) == (1, True)
    code, error = fail(capsys, *command, "--negative", "p.txt")
    assert (code, "--negative came without --positive" in flat(error)) == (1, True)


def test_notes_on_prompts_reach_the_user_and_the_circuit(capsys, here, model):
    rows = "".join(f"{n},harm {n} a,unsafe\n{n},help {n} b,safe\n" for n in range(15))
    (here / "mine.csv").write_text("id,Prompt,Label\n" + rows)
    with pytest.raises(SystemExit):
        main(["discover", str(model), "-b", "mine.csv", *QUICK])
    told = flat(capsys.readouterr().err)
    notes = nd.Circuit.read("mine.circuit.json").origin.prompts["notes"]
    assert notes[:2] == [
        "mine.csv: not read: column 'id'", "mine.csv: labels read: safe as negative, unsafe as positive",
    ]  # fmt: skip
    assert "6 prompts a side to discover with is few" in notes[2]
    assert all(f"note: {note}" in told for note in notes)
    assert all(note in flat(run(capsys, "show", "mine.circuit.json")) for note in notes)


@pytest.mark.parametrize("command", [["show"], ["steer", "nowhere"], ["compare"]])
def test_a_prompt_file_in_place_of_a_circuit_is_named(capsys, here, prompts, command):
    words = [*command, str(prompts), *([str(prompts)] if command == ["compare"] else [])]
    code, error = fail(capsys, *words)
    assert code == 1
    assert "It looks like contrasted prompts" in flat(error) or "It looks like a behaviour's table" in flat(error)


def test_discover_as_json_prints_the_file_and_nothing_else(capsys, here, model, prompts):
    text = run(capsys, "discover", model, "--behaviour", prompts, *QUICK, "--json")
    assert text == (here / "mine.circuit.json").read_text(), "named after the behaviour"
    assert json.loads(text)["format"] == "neurodial.circuit"


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (["--count", "5"], "select", {"kind": "Count", "value": 5}),
        (["--select", "per-layer:2"], "select", {"kind": "PerLayer", "value": 2}),
        (["--threshold", "0.5"], "select", {"kind": "Threshold", "value": 0.5}),
        (["--mass", "0.2"], "select", {"kind": "Mass", "value": 0.2}),
        (["--fraction", "0.25"], "select", {"kind": "Fraction", "value": 0.25}),
        (["--score", "standardised"], "score", "standardised"),
        (["--score", "auroc"], "score", "auroc"),
        (["--sign", "negative"], "sign", "negative"),
        (["--position", "-3"], "position", {"kind": "Index", "value": -3}),
        (["--position", "post-instruction"], "position", {"kind": "PostInstruction", "length": None}),
        (["--skip-layers", "1"], "skip_layers", [1]),
        (["--system", "Be brief."], "system", "Be brief."),
        (["--method", "cna-reference", "--skip-layers", "none"], "as_published", True),
    ],
)
def test_every_option_of_discover_changes_the_result(capsys, here, model, prompts, found, options, field, value):
    base = (
        []
        if {"--count", "--fraction", "--select", "--threshold", "--mass", "--method"} & set(options)
        else ["--count", "6"]
    )
    run(capsys, "discover", model, "-b", prompts, "-o", "a.json", "--universal", "none", *base, *options)
    changed = nd.Circuit.read("a.json")
    assert changed.origin.method[field] == value
    assert changed.rows != found.rows


def test_folds_and_the_universal_filter_do_something(capsys, here, model, prompts, found):
    (here / "diverse.txt").write_text("harm\nhelp\nanything else\n")
    options = ["--universal", "diverse.txt", "--folds", "3", "--count", "6"]
    run(capsys, "discover", model, "-b", prompts, "-o", "a.json", *options)
    filtered = nd.Circuit.read("a.json")
    assert filtered.stability is not None
    assert len(filtered.stability.overlaps) == 3
    assert filtered.origin.universal is not None
    assert found.origin.universal is None
    run(capsys, "discover", model, "-b", prompts, "-o", "b.json", *QUICK)
    assert nd.Circuit.read("b.json").stability is None


def test_a_file_that_records_options_that_are_gone_reads_and_shows(capsys, here, circuit):
    value = json.loads(Path(circuit).read_text())
    gone = {"dosing": "full", "rounds": 3, "rounding": True, "double_bos": True}
    value["method"] |= gone
    Path("old.circuit.json").write_text(json.dumps(value))
    old = nd.Circuit.read("old.circuit.json")
    assert {name: old.origin.method[name] for name in gone} == gone
    assert old.rows == nd.Circuit.read(circuit).rows
    assert "mine: 6 neurons" in flat(run(capsys, "show", "old.circuit.json"))
    assert json.loads(run(capsys, "show", "old.circuit.json", "--json"))["method"]["dosing"] == "full"


def test_how_the_model_is_loaded_is_an_option(capsys, here, model, prompts, found):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["up_proj"], init_lora_weights=False)
    get_peft_model(tiny_model(), config).save_pretrained("adapter")
    run(capsys, "discover", model, "-b", prompts, "-o", "a.json", *QUICK, "--adapter", "adapter", "--device", "cpu")
    adapted = nd.Circuit.read("a.json")
    run(capsys, "discover", model, "-b", prompts, "-o", "b.json", *QUICK, "--dtype", "bfloat16")
    rounded = nd.Circuit.read("b.json")
    assert adapted.origin.model is not None
    assert rounded.origin.model is not None
    assert found.origin.model is not None
    assert adapted.origin.model.adapter_digest is not None
    assert adapted.origin.model.digest == found.origin.model.digest
    assert rounded.origin.model.dtype == "bfloat16"
    assert len({found.rows, adapted.rows, rounded.rows}) == 3
    assert "with an adapter" in flat(run(capsys, "show", "a.json"))


def test_an_existing_file_is_refused_before_the_model_is_loaded(capsys, here, no_model, prompts):
    (here / "mine.circuit.json").write_text("precious")
    code, error = fail(capsys, "discover", "demo", "-b", prompts)
    assert (code, "exists already" in error, "--force" in error) == (1, True, True)
    assert (here / "mine.circuit.json").read_text() == "precious"


def test_force_overwrites(capsys, here, model, prompts):
    (here / "mine.circuit.json").write_text("old")
    run(capsys, "discover", model, "-b", prompts, *QUICK, "--force")
    assert len(nd.Circuit.read("mine.circuit.json")) == 6


BAD_PROMPTS = {
    "cut.jsonl": '{"positive": "a", "negative": "b"}\n{"positive": "c", ',
    "alone.jsonl": '{"positive": "a"}\n{"positive": "b"}\n',
    "empty.jsonl": "",
    "twice.jsonl": '{"positive": "a", "negative": "b"}\n{"positive": "A", "negative": "c"}\n',
    "overlap.jsonl": "".join(f'{{"positive": "a", "negative": "b", "split": "{s}"}}\n' for s in ("discovery", "test")),
    "untested.jsonl": '{"positive": "a", "negative": "b", "split": "test"}\n',
    "short.txt": "",
}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-b", "refusel"], "no behaviour 'refusel'. Wanted: a shipped behaviour, or the path"),
        (["-b", "refusel"], "Did you mean refusal"),
        (["-b", "gone.jsonl"], "no file gone.jsonl"),
        (["-b", "cut.jsonl"], "cut.jsonl, line 2 is not JSON (Expecting property name"),
        (["-b", "cut.jsonl"], '{"positive": "c", '),
        (["-b", "alone.jsonl"], "negative side has no prompts"),
        (["-b", "empty.jsonl"], "holds no prompts"),
        (["-b", "twice.jsonl"], "line 2 repeats the positive prompt of twice.jsonl, line 1"),
        (["-b", "overlap.jsonl"], "2 prompts are in both discovery and test"),
        (["-b", "untested.jsonl"], "no discovery prompts"),
        (["--fraction", "0"], "The fraction is 0.0. Wanted: more than 0 and at most 1"),
        (["--fraction", "1.5"], "The fraction is 1.5"),
        (["--fraction", "nan"], "The fraction is nan"),
        (["--count", "0"], "The count is 0"),
        (["--count", "5", "--fraction", "0.1"], "2 rules of selection are given: --fraction and --count"),
        (["--select", "fractoin:0.1"], "no rule of selection 'fractoin'. Did you mean fraction"),
        (["--select", "count"], "a whole number after count:"),
        (["--universal", "none", "--universal-share", "0.5"], "universal is none, and share of it is given"),
        (["--budget", "0.1"], "Method cna has no option budget"),
        (["--method", "can"], "no method 'can'. Did you mean cna"),
        (["--position", "middle"], "The position is 'middle'"),
        (["--skip-layers", "0;1"], "skip_layers is '0;1'. Wanted: whole numbers between commas"),
        (["--folds", "1"], "The number of folds is 1"),
        (["--universal", "nutral"], "no prompt list 'nutral'. Did you mean neutral"),
        (["--universal", "short.txt"], "short.txt holds no prompts"),
        (["--load-in", "3bit"], "--load-in is '3bit'. Wanted: 4bit or 8bit"),
        (["-o", "folder"], "folder is a folder"),
        (["-o", "cut.jsonl/a.json"], "can't be made"),
        (["-o", "n" * 300], "File name too long"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_loaded(capsys, here, no_model, prompts, options, said):
    for name, content in BAD_PROMPTS.items():
        (here / name).write_text(content)
    (here / "folder").mkdir()
    behaviour = [] if "-b" in options else ["-b", prompts]
    code, error = fail(capsys, "discover", "demo", *behaviour, *options)
    assert code == 1
    assert said in error
    assert {path.name for path in here.iterdir()} == {*BAD_PROMPTS, "folder"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--skip-layers", "7"], "no layer 7 to skip. Wanted: layers from 0 to 1"),
        (["--skip-layers", "0,1"], "Every layer is skipped"),
        (["--position", "99"], "has no token 99"),
        (["--system", "long " * 200], "at most 512, the model's context"),
        (["--device", "toaster"], "The device 'toaster' can't be used"),
        (["--device", "cpu", "--device-map", "auto"], "Both device and device_map"),
        (["--max-memory", "cpu=1GiB"], "Wanted: --device-map auto beside them"),
        (["--device-map", "auto", "--max-memory", "1GiB"], "--max-memory is '1GiB'. Wanted: DEVICE=SIZE"),
        (["--device-map", "auto", "--max-memory", "cpu=1MB", "--max-memory", "cpu=2MB"], "names cpu twice"),
        (["--adapter", "gone"], "gone is not an adapter"),
        (["--dtype", "int8"], "The dtype is 'int8'"),
    ],
)
def test_what_only_the_model_can_tell_is_refused_before_any_work(
    capsys, here, monkeypatch, model, prompts, options, said
):
    def forward(*args, **kwargs):
        raise AssertionError("the model was run")

    monkeypatch.setattr("neurodial.activations.collect._forward", forward)
    monkeypatch.setattr("neurodial.activations.collect._prefix_cache", forward)
    code, error = fail(capsys, "discover", model, "-b", prompts, *options)
    assert code == 1
    assert said in error
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nowhere", None, "It is no local path"),
        ("some/model", None, "HF_HUB_OFFLINE"),
        ("model.gguf", None, "Nothing stands at this path"),
        ("empty", "", "has no config.json"),
        ("unknown", '{"model_type": "mamba"}', "Models of the type mamba have no neurons"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(capsys, here, prompts, name, content, said):
    if content is not None:
        (here / name).mkdir()
        if content:
            (here / name / "config.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["discover", name, "-b", str(prompts), "-o", "a.json"])
    error = capsys.readouterr().err
    assert stopped.value.code == 1
    assert said in error
    assert "Traceback" not in error
    assert not (here / "a.json").exists()


def test_activations_that_are_not_numbers_are_refused_and_nothing_is_written(capsys, here, prompts):
    broken = tiny_model()
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    broken.save_pretrained("broken")
    tiny_tokenizer().save_pretrained("broken")
    (here / "a.json").write_text("old")
    code, error = fail(capsys, "discover", "broken", "-b", prompts, "-o", "a.json", "--force", *QUICK)
    assert code == 1
    assert "Layer 1 gives NaN or infinite activations" in error
    assert (here / "a.json").read_text() == "old"


def test_a_full_disk_loses_nothing(capsys, here, monkeypatch, model, prompts):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (here / "a.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    code, error = fail(capsys, "discover", model, "-b", prompts, "-o", "a.json", "--force", *QUICK)
    assert code == 1
    assert "No space left" in error
    assert [path.name for path in here.iterdir()] == ["a.json"]
    assert (here / "a.json").read_text() == "old"


# ------------------------------------------------------------------------------------------- show


def test_show_tells_all_about_a_circuit(capsys, circuit, found):
    text = flat(run(capsys, "show", circuit))
    assert "mine: 6 neurons of 48 (12.500%); dial 1 means remove" in text
    assert "(llama, float32)" in text
    assert "method: CNA, with select count:6, universal none; otherwise as by default" in text
    assert "prompts: 6 positive, 6 negative" in text
    assert "stability:" in text
    assert "6 folds" in text
    strongest = max(found, key=lambda row: abs(row.score))
    assert f"{strongest.score:+.4f}" in text
    assert "more" not in text


def test_show_lists_as_many_neurons_as_asked(capsys, circuit, found):
    ranked = [f"{row.score:+.4f}" for row in found.top(6)]
    for count, listed, left in [(2, 2, "… and 4 more"), (0, 6, ""), (50, 6, "")]:
        text = run(capsys, "show", circuit, "--top", count)
        assert sum(score in text for score in ranked) == listed
        assert left in text
        assert ("more" in text) == bool(left)


def test_show_as_json_is_the_file(capsys, circuit):
    assert run(capsys, "show", circuit, "--json") == circuit.read_text()


def test_show_takes_a_circuit_by_hand_and_an_empty_one(capsys, here):
    rows = [Row(nd.Neuron(3, None, 7), 1.0, 0.5)]
    nd.Circuit.of(rows, name="[/b] :smile:").write("hand.json")
    nd.Circuit.of([]).write("empty.json")
    text = flat(run(capsys, "show", "hand.json"))
    assert "[/b] :smile:: 1 neurons; dial 1 means remove" in text
    assert "by hand" in text
    assert "0 neurons" in run(capsys, "show", "empty.json")


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (None, [], "can't be read"),
        ("{", [], "not JSON"),
        ("{}", [], "not a circuit file"),
        ('{"format": "neurodial.circuit", "version": 4}', [], "Update neurodial"),
        ('{"format": "neurodial.circuit", "version": 3}', [], "damaged"),
        ("good", ["--top", "-1"], "The number of neurons to list is -1"),
    ],
)
@pytest.mark.parametrize("command", ["show", "compare"])
def test_a_bad_file_is_one_line_of_words(capsys, here, circuit, command, content, options, said):
    if content is not None:
        (here / "a.json").write_text(circuit.read_text() if content == "good" else content)
    if command == "compare":
        if options:
            return
        options = [str(circuit)]
    code, error = fail(capsys, command, "a.json", *options)
    assert code == 1
    assert said in error


def test_a_negative_preview_is_refused(capsys):
    code, error = fail(capsys, "behaviours", "refusal", "--count", "-1")
    assert (code, "-1" in error) == (1, True)


# ------------------------------------------------------------------------------------------- compare


def test_compare_shows_what_is_shared(capsys, here, circuit, found):
    found.top(2).write("part.json")
    text = flat(run(capsys, "compare", circuit, "part.json"))
    assert "2 shared of 6 and 2 neurons (by chance: 0.25), 100% of them with the same sign" in text
    assert "Jaccard overlap 0.333" in text
    value = json.loads(run(capsys, "compare", circuit, "part.json", "--json"))
    assert (value["first"], value["second"], value["shared"]) == (6, 2, 2)
    assert sum(row[3] for row in value["by_layer"]) == 2


def test_compare_circuits_by_hand_that_share_nothing(capsys, here):
    for layer in (0, 1):
        nd.Circuit.of([Row(nd.Neuron(layer, None, 7), 1.0, 1.0)]).write(f"{layer}.json")
    text = flat(run(capsys, "compare", "0.json", "1.json"))
    assert "0 shared of 1 and 1 neurons (by chance: not known)" in text
    assert "sign" not in text


def test_circuits_of_models_of_other_shape_are_not_compared(capsys, here, circuit):
    value = json.loads(circuit.read_text())
    value["model"]["widths"] = [24, 24, 24]
    (here / "other.json").write_text(json.dumps(value))
    code, error = fail(capsys, "compare", circuit, "other.json")
    assert code == 1
    assert "different shape" in error


def test_the_file_of_a_circuit_is_its_json(circuit, found):
    assert circuit.read_text() == circuit_json(found)
