"""Every causal model type of transformers, on a tiny model: what the table of known models says is what is seen."""

import json

import pytest
import transformers
from tests.zoo import IMAGE_TYPES, causal_types
from tests.zoo_checks import CAPABILITIES, row_of

from neurodial.errors import UnknownNameError
from neurodial.model.known_models import CAPABILITIES as LISTED
from neurodial.model.known_models import TABLE, known_model, known_models

ROWS = json.loads(TABLE.read_text(encoding="utf-8"))
FAST = {
    "granite": "constant factors at writes and logits",
    "nemotron_h": "blocks without an MLP, and layers with a state",
    "deepseek_v3": "shared beside routed experts",
    "mixtral": "routed experts alone",
    "bitnet": "a norm before the neurons",
    "modernbert-decoder": "get_decoder() gives another module",
    "mamba": "no MLP",
}
"""One of each peculiarity; the others are slow tests."""

needs_the_same_types = pytest.mark.skipif(
    transformers.__version__ != ROWS["transformers"], reason="the table is of another version of transformers"
)


def cases(kind, types):
    for name in types:
        marks = [] if name in FAST else [pytest.mark.slow]
        yield pytest.param(kind, name, marks=marks, id=f"{name}-{kind.partition(' ')[0]}")


@needs_the_same_types
@pytest.mark.parametrize(("kind", "name"), [*cases("text", causal_types()), *cases("image and text", IMAGE_TYPES)])
def test_a_type_does_what_the_table_says(kind, name):
    """Laws, a planted neuron, slopes against differences, conservation, and each export loaded again."""
    expected, seen = ROWS[kind][name], row_of(name, images=kind == "image and text")
    assert seen.keys() == expected.keys(), seen
    for capability in CAPABILITIES:
        assert (seen.get(capability) == "yes") == (expected.get(capability) == "yes"), (capability, seen)
    assert seen.get("neurons") == expected.get("neurons")
    assert seen.get("mlp") == expected.get("mlp")
    assert seen.get("block_names") == expected.get("block_names")


@needs_the_same_types
def test_every_type_stands_in_the_table():
    assert list(ROWS["text"]) == causal_types()
    assert list(ROWS["image and text"]) == IMAGE_TYPES
    assert set(LISTED) == set(CAPABILITIES)


def test_most_types_work_and_the_rest_have_reasons():
    text = [model for model in known_models() if model.kind == "text"]
    images = [model for model in known_models() if model.kind == "image and text"]
    assert sum(model.works for model in text) >= 157
    assert sum(model.works for model in images) >= 19
    for model in known_models():
        assert model.absent or model.told.keys() == set(LISTED)
        assert all(model.reasons.values())


def test_the_command_prints_the_table_and_a_types_reasons(capsys):
    from neurodial.cli.models_command import models

    models(json=True)
    listed = json.loads(capsys.readouterr().out)
    assert len([row for row in listed if row["kind"] != "quantised base"]) == len(known_models())
    assert next(row for row in listed if row["name"] == "llama")["trace"] == "yes"
    models("mixtral", "granite")
    shown = " ".join(capsys.readouterr().out.split())
    assert "mlp.experts.down_proj of routed experts" in shown
    assert "gguf: llama.cpp's name of it is not known here" in shown
    models()
    assert f"{sum(model.works for model in known_models())} of {len(known_models())} types" in capsys.readouterr().out


def test_a_type_that_was_not_tried():
    with pytest.raises(UnknownNameError, match="lama") as refused:
        known_model("lama")
    assert "llama" in str(refused.value)
    assert f"All {len({model.name for model in known_models()})}: `neurodial models`" in str(refused.value)
    assert len(str(refused.value)) < 250
