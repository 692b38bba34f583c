"""`neurodial serve`: a real process that serves, and what it refuses before it does."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from tests.subjects import circuit_of

import neurodial as nd
from neurodial.cli.main import main
from neurodial.cli.serve_command import _warn
from neurodial.model.tiny import tiny_model, tiny_tokenizer

SOURCE = Path(__file__).resolve().parents[2] / "src"
QUESTION = "Hello there"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "small"
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def circuit(model, tmp_path_factory):
    return circuit_of(nd.load(model), 12).write(tmp_path_factory.mktemp("circuit") / "polite.circuit.json")


@contextmanager
def process(*arguments, **environment):
    """The command in a process of its own; its address, once it serves."""
    command = [sys.executable, "-m", "neurodial.cli.main", "serve", *map(str, arguments), "--port", "0"]
    own = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200", **environment}
    running = subprocess.Popen(command, env=own, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = []
    try:
        for line in running.stderr:
            said.append(line)
            if line.startswith("try: "):
                break
        address = re.search(r"http://\S+/v1", "".join(said))
        assert address, "".join(said)
        yield running, address[0], said
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
        running.stdout.close()


def failing(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(["serve", *map(str, arguments)])
    assert caught.value.code
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_http_command_line_and_python_give_the_same_text(model, circuit, capsys):
    """Law 8; and a process that is interrupted ends by itself, without a traceback."""
    options = ["--circuit", f"polite={circuit}@0.5", "--max-dial", 4, "--host", "0.0.0.0", "--name", "mine"]  # noqa: S104
    with process(model, *options, NEURODIAL_API_KEY="secret") as (running, address, said):
        assert address.startswith("http://localhost:")
        with openai.OpenAI(base_url=address, api_key="secret", max_retries=0) as client:
            assert [entry.id for entry in client.models.list()] == ["mine", "polite"]
            texts = {}
            for name in ("mine", "polite", "polite@4"):
                answer = client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=12
                )
                texts[name] = answer.choices[0].message.content
            with pytest.raises(openai.BadRequestError, match="from -4 to 4"):
                client.completions.create(model="polite@5", prompt="x")
        wrong = openai.OpenAI(base_url=address, api_key="guess", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        running.send_signal(signal.SIGINT)
        running.wait(30)
        rest = running.stderr.read()
    assert running.returncode in {0, 130}  # 0 where whoever started the tests has it ignore SIGINT
    words = "".join(said) + rest
    assert "warning: others on the network can reach 0.0.0.0; the token goes over it in the clear." in words
    assert "Traceback" not in words
    assert "secret" not in words
    with pytest.raises(SystemExit, match="0"):
        main(["steer", str(model), str(circuit), "--dial", "0.5,4", "--max-new-tokens", "12", "--json", QUESTION])
    line = json.loads(capsys.readouterr().out)
    assert [line["unsteered"], *(side["text"] for side in line["steered"])] == list(texts.values())
    subject, decoding = nd.load(model), nd.Decoding(max_new_tokens=12)
    [python] = nd.generate(subject, [QUESTION], under=nd.Scale(nd.Circuit.read(circuit), 4.0), decoding=decoding)
    assert python.text == texts["polite@4"]
    assert len(set(texts.values())) > 1


def test_the_network_is_warned_of(capsys):
    _warn("192.0.2.1", has_key=False)
    words = "warning: others on the network can reach 192.0.2.1, and there is no token"
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-batch", "0"], "max_batch is 0"),
        (["--max-dial", "1000"], "The largest dial is 1000.0"),
        (["--circuit", "no.circuit.json"], "no.circuit.json"),
        (["--host", "203.0.113.1"], "can't listen on 203.0.113.1"),
        (["--port", "70000"], "can't listen on 127.0.0.1, port 70000"),
        (["--api-key", " "], "The API key is empty"),
    ],
)
def test_options_are_refused_before_the_model_is_loaded(options, words, capsys):
    """There is no such model; nobody notices."""
    assert words in failing(capsys, "no-such-model", *options)


def test_names_are_refused_before_the_model_is_loaded(circuit, capsys):
    assert "A circuit is named 'a:b'" in failing(capsys, "none", "--circuit", f"a:b={circuit}")
    assert "has the dial 9" in failing(capsys, "none", "--circuit", f"a={circuit}@9")
    assert "different names" in failing(capsys, "none", "--circuit", f"a={circuit}", "--circuit", f"a={circuit}")


def test_a_circuit_of_another_model_is_refused(circuit, tmp_path, capsys):
    tiny_model(seed=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert "was made on" in failing(capsys, tmp_path, "--circuit", circuit, "--port", "0")


def test_a_missing_package_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    words = failing(capsys, "none")
    assert "needs the package fastapi" in words
    assert "neurodial[serve]" in words
