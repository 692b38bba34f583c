"""`neurodial evaluate --engine vllm`, as a user types it: a stand-in answers for vLLM's environment."""

import json

import pytest
from tests.engines.environment import as_interpreter

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.cli.main import app
from neurodial.errors import EngineError, OptionError
from neurodial.evaluation.results import read_report
from neurodial.model.load import load
from neurodial.model.tiny import tiny_model, tiny_tokenizer

MEASURE = [
    *(
        "--detectors",
        "regex:[a-m]",
        "--neutral",
        "1",
        "--perplexity",
        "0",
        "--max-new-tokens",
        "2",
        "--margin",
        "answer",
    )
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    answers = {"positive_answer": "yes it is", "negative_answer": "no it is not"}
    rows = [
        {"positive": f"harm {split} {n}?", "negative": f"help {split} {n}!", "split": split, **answers}
        for split in ("discovery", "development", "test")
        for n in range(2)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    origin = Origin(model=load(folder / "model").identity)
    Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)], name="mine", origin=origin).write(folder / "mine.json")
    as_interpreter(folder / "python")
    return folder


def evaluate(files, output, *words):
    """The command as it is typed."""
    shared = [str(files / "model"), str(files / "mine.json"), "-b", str(files / "pairs.jsonl"), *MEASURE]
    app(["evaluate", *shared, "-o", str(output), *words], exit_on_error=False, result_action="return_value")


@pytest.mark.timeout(300)  # a process of the stand-in
def test_the_report_is_as_ever_and_says_what_ran(files, tmp_path, monkeypatch):
    engine = ["--engine", "vllm", "--engine-python", str(files / "python"), "--dtype", "float32"]
    words = ["--dials", "1,20", "--split", "development", *engine, "--", "--tensor-parallel-size", "2"]
    evaluate(files, tmp_path / "there", *words)
    report = read_report(tmp_path / "there")
    assert [(condition.label, condition.dial) for condition in report.conditions[1:]] == [("mine", 1.0), ("mine", 20.0)]
    assert {"rate:regex:[a-m]", "margin", "kl"} <= report.conditions[2].metrics.keys()
    assert report.provenance["engine"]["options"] == ["--dtype", "float32", "--tensor-parallel-size", "2"]
    assert [note for note in report.notes if "development split" in note]
    assert not (tmp_path / "there.partial").exists()
    monkeypatch.setenv("STAND_IN", "dies")
    with pytest.raises(EngineError, match=r"ended with 1: .*Worker failed.*there2\.partial/vllm\.log"):
        evaluate(files, tmp_path / "there2", *engine)
    assert not (tmp_path / "there2" / "report.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "--max-model-len", "64"], "'--max-model-len' came after the model"),
        (["--engine", "vllm", "--against", "caa"], "Method caa reads or changes"),
        (["--engine", "vllm", "--load-in", "4bit"], "--quantization fp8"),
        (["--engine", "vllm", "--when", "generated"], "acts on the generated tokens alone"),
        (["--split", "development", "--test-set", "jbb"], "came with --split development"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_loaded(files, tmp_path, words, message):
    with pytest.raises(OptionError, match=message):
        evaluate(files, tmp_path / "there", *words)
    assert not (tmp_path / "there").exists()
