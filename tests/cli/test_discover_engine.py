"""`neurodial discover --engine vllm`, as a user types it: a stand-in answers for vLLM's environment."""

import json

import pytest
from tests.engines.environment import as_interpreter

from neurodial.circuit.file import read_circuit
from neurodial.cli.main import app
from neurodial.errors import EngineError, OptionError
from neurodial.model.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"positive": f"harm {n}?", "negative": f"help {n}!", "split": "discovery"} for n in range(6)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    as_interpreter(folder / "python")
    return folder


def discover(files, *words):
    """The command as it is typed."""
    shared = [str(files / "model"), "-b", str(files / "pairs.jsonl"), "--count", "5", "--universal", "none"]
    app(["discover", *shared, *words], exit_on_error=False, result_action="return_value")


def test_the_circuit_is_that_of_transformers_and_says_what_ran(files, tmp_path, capsys):
    engine = ["--engine", "vllm", "--engine-python", str(files / "python"), "--dtype", "float32"]
    discover(files, "-o", str(tmp_path / "there.json"), *engine, "--", "--tensor-parallel-size", "2")
    assert "engine: vllm 0.32.0" in capsys.readouterr().out
    discover(files, "-o", str(tmp_path / "here.json"))
    there, here = (read_circuit(tmp_path / f"{name}.json") for name in ("there", "here"))
    assert there.neurons == here.neurons
    assert there.origin.model == here.origin.model
    options = ["--dtype", "float32", "--tensor-parallel-size", "2"]
    assert there.origin.engine == {"name": "vllm", "version": "0.32.0", "tensor_parallel": 2, "options": options}
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_run_that_fails_writes_no_circuit_and_keeps_its_log(files, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "dies")
    engine = ["--engine", "vllm", "--engine-python", str(files / "python")]
    with pytest.raises(EngineError, match=r"ended with 1: .*Worker failed.*vllm\.log"):
        discover(files, "-o", str(tmp_path / "there.json"), *engine)
    assert not (tmp_path / "there.json").exists()
    assert len(list(tmp_path.rglob("vllm.log"))) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refusal"], "'refusal' came after the model"),
        (["--engine-python", "python"], "came without an engine"),
        (["--engine", "vllm", "--adapter", "here"], "Merge it first"),
        (["--engine", "vllm", "--device", "cuda"], "CUDA_VISIBLE_DEVICES"),
        (["--engine", "vllm", "--device-map", "auto"], "--tensor-parallel-size 8"),
        (["--engine", "vllm", "--load-in", "4bit"], "--quantization fp8"),
    ],
)
def test_options_without_a_meaning_are_refused(files, words, message):
    with pytest.raises(OptionError, match=message):
        discover(files, *words)
