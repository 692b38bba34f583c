"""What can't be a model is refused at once, with the names that are near."""

import pytest

from neurodial.errors import ModelError
from neurodial.model.which_model import cached_models, refuse_no_model


@pytest.fixture
def cached(tmp_path, monkeypatch):
    (tmp_path / "models--Qwen--Qwen3-0.6B").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize(("name", "meant"), [("demo-bse", "demo-base"), ("Demo", "demo"), ("demo_base", "demo-base")])
def test_a_misspelt_demo_is_refused_online_too(monkeypatch, name, meant):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(ModelError, match=rf"Did you mean {meant}\?"):
        refuse_no_model(name)


def test_an_id_of_the_hub_is_left_to_the_hub_unless_offline(monkeypatch, cached):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for name in ("gpt2", "facebook/opt-125m", "nobody/nothing"):
        refuse_no_model(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cached_models() == ["Qwen/Qwen3-0.6B"]
    refuse_no_model("Qwen/Qwen3-0.6B")
    with pytest.raises(ModelError, match=r"Did you mean Qwen/Qwen3-0\.6B\?.*1 model of the Hub is in the cache"):
        refuse_no_model("Qwen/Qwen3-06B")


def test_a_path_with_nothing_there_offers_its_neighbours(tmp_path):
    (tmp_path / "small.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=r"Nothing stands at this path\. Did you mean .*small\.gguf\?"):
        refuse_no_model(str(tmp_path / "smal.gguf"))
    refuse_no_model(str(tmp_path / "small.gguf"))
    with pytest.raises(ModelError, match="Nothing stands at this path"):
        refuse_no_model("./nothing")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("small.gguf", "It holds a GGUF file"),
        ("adapter_config.json", "It is an adapter"),
        ("inner/config.json", "Did you mean .*inner"),
        ("other.txt", "has no config.json"),
    ],
)
def test_a_folder_that_holds_no_model_says_what_it_holds(tmp_path, file, words):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(ModelError, match=words):
        refuse_no_model(str(tmp_path))


def test_a_folder_of_a_model_is_taken(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    refuse_no_model(str(tmp_path))
    refuse_no_model("demo")
    refuse_no_model("demo-base")
