"""`neurodial studio`: what it is given reaches the page, and what makes no sense is said before the model is loaded."""

import importlib.util
import json
import socket
import threading
import urllib.request

import pytest
from tests.nla.pairs import write_pair
from tests.subjects import circuit_of

from neurodial.cli.main import app, main
from neurodial.model.load import load
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.studio import app as studio_app
from neurodial.studio.app import create_app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def circuit(folder, tmp_path_factory):
    return circuit_of(load(folder)).write(tmp_path_factory.mktemp("circuit") / "some.circuit.json")


@pytest.fixture
def serve_once(monkeypatch):
    """Run the command, ask its server some addresses, and stop it."""
    import uvicorn

    servers = []
    run = uvicorn.Server.run

    def remember(self, sockets=None):
        servers.append((self, sockets[0].getsockname()[1]))
        self.install_signal_handlers = lambda: None
        run(self, sockets=sockets)

    monkeypatch.setattr(uvicorn.Server, "run", remember)

    def serve(arguments, *paths):
        words = ["studio", *map(str, arguments), "--port", "0", "--no-open"]
        thread = threading.Thread(target=lambda: app(words, exit_on_error=False, result_action="return_value"))
        thread.start()
        while not servers:
            assert thread.is_alive()
            thread.join(0.05)
        server, port = servers[0]
        found = [json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read()) for path in paths]
        server.should_exit = True
        thread.join(30)
        return found

    return serve


def fail(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    return int(stopped.value.code or 0), capsys.readouterr().err


def test_circuits_reach_the_page_under_their_names(serve_once, folder, circuit, tmp_path):
    arguments = [folder, "-c", f"polite={circuit}", "-c", f"again={circuit}", "--folder", tmp_path / "kept"]
    model, circuits = serve_once(arguments, "/api/model", "/api/circuits")
    assert model["neurons"] == 48
    assert [one["id"] for one in circuits] == ["polite", "again"]
    assert not (tmp_path / "kept").exists(), "nothing is written before something is made"


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = fail(capsys, "studio", "no-such-model", "--port", taken.getsockname()[1], "--no-open")
    assert code == 1
    assert "can't be used" in said
    assert "--port" in said


def test_a_circuit_of_another_model_is_refused_unless_forced(capsys, circuit, tmp_path, serve_once):
    other = tmp_path / "other"
    tiny_model(seed=1).save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    code, said = fail(capsys, "studio", other, "-c", circuit, "--port", 0, "--no-open")
    assert code == 1
    assert "was made on" in said
    [circuits] = serve_once([other, "-c", circuit, "--force"], "/api/circuits")
    assert len(circuits) == 1


def test_a_missing_package_says_how_to_get_it(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    code, said = fail(capsys, "studio", "demo")
    assert code == 1
    assert "neurodial[studio]" in said


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Options for a pair for a tiny model of three blocks."""
    folders = write_pair(tmp_path_factory.mktemp("pair"))
    return ["--verbaliser", folders.verbaliser, "--reconstructor", folders.reconstructor]


def test_a_pair_reaches_the_pages(serve_once, pair, tmp_path, monkeypatch):
    tiny_model(num_hidden_layers=3).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    states = []

    def noted(state, host):
        states.append(state)
        return create_app(state)

    monkeypatch.setattr(studio_app, "create_app", noted)
    serve_once([tmp_path, *pair], "/api/model")
    [state] = states
    assert (state.autoencoder.pair.layer, state.autoencoder.name) == (1, "neutral")
    assert len(state.autoencoder.reference) > 10


def test_a_pair_for_another_model_is_refused_before_the_model_is_loaded(capsys, pair, tmp_path):
    tiny_model(num_hidden_layers=4).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    code, said = fail(capsys, "studio", tmp_path, *pair, "--port", 0, "--no-open")
    assert code == 1
    assert "was not made for" in said
    assert "blocks 4 against 3" in said
    code, said = fail(capsys, "studio", tmp_path, *pair[:2], "--port", 0, "--no-open")
    assert "--verbaliser came without --reconstructor" in said


def test_a_pair_for_other_weights_is_refused_unless_forced(capsys, serve_once, tmp_path):
    folders = write_pair(tmp_path / "pair")
    meta = folders.verbaliser / "nla_meta.yaml"
    meta.write_text(f"{meta.read_text()}base: {{label: another, digest: {'0' * 64}}}\n")
    tiny_model(num_hidden_layers=3).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    arguments = [tmp_path, "--verbaliser", folders.verbaliser, "--reconstructor", folders.reconstructor]
    code, said = fail(capsys, "studio", *arguments, "--port", 0, "--no-open")
    assert code == 1
    assert "with other weights" in said
    [model] = serve_once([*arguments, "--force"], "/api/model")
    assert model["neurons"] == 72
