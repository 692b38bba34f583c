"""Where a result comes from."""

import dataclasses
import hashlib
import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neurodial
from neurodial import provenance
from neurodial.methods.cna.options import CNA
from neurodial.provenance import ModelIdentity, canonical_json, describe, now, sha256, versions

MODEL = ModelIdentity(
    label="some/model",
    family="llama",
    digest="a" * 64,
    adapter_digest=None,
    tokenizer_hash="b" * 64,
    template_hash="c" * 64,
    dtype="float32",
    widths=(24, 24),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


# ------------------------------------------------------------------------------------------- which model


def test_a_model_does_not_differ_from_itself():
    assert MODEL.differences(MODEL) == []


@pytest.mark.parametrize("change", [{"label": "/another/path"}, {"dtype": "bfloat16"}])
def test_a_label_and_a_dtype_make_no_other_model(change):
    assert MODEL.differences(dataclasses.replace(MODEL, **change)) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"widths": (24, 32)}, "neurons per layer (2 x 24 against [24, 32])"),
        ({"family": "qwen2"}, "family (llama against qwen2)"),
        ({"digest": "d" * 64}, "weights (digest aaaaaaaaaaaa against dddddddddddd)"),
        ({"adapter_digest": "e" * 64}, "adapter (none against eeeeeeeeeeee)"),
        ({"tokenizer_hash": "f" * 64}, "tokenizer (another vocabulary)"),
    ],
)
def test_another_model_is_told_by_what_differs(change, named):
    assert MODEL.differences(dataclasses.replace(MODEL, **change)) == [named]


def test_every_difference_is_named():
    other = dataclasses.replace(MODEL, widths=(8,), family="gpt2", digest="0", adapter_digest="1", tokenizer_hash="2")
    assert len(MODEL.differences(other)) == 5
    assert len(other.differences(MODEL)) == 5


# ------------------------------------------------------------------------------------------- hashes


def test_sha256_is_sha256_of_utf8():
    assert sha256("é") == sha256("é".encode()) == hashlib.sha256("é".encode()).hexdigest()


@given(value=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), min_size=2), data=st.data())
def test_canonical_json_does_not_depend_on_the_order_of_keys(value, data):
    shuffled = dict(data.draw(st.permutations(list(value.items()))))
    assert canonical_json(shuffled) == canonical_json(value)


@given(value=JSON)
def test_canonical_json_loses_nothing(value):
    assert json.loads(canonical_json(value)) == value


@given(first=JSON, second=JSON)
def test_different_values_have_different_canonical_json(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (canonical_json(first) == canonical_json(second)) == same


# ------------------------------------------------------------------------------------------- options and versions


def test_every_option_of_a_method_is_described():
    described = describe(CNA())
    assert set(described) == {"kind", *(field.name for field in dataclasses.fields(CNA))}
    assert described["select"] == {"kind": "Fraction", "value": 0.001}
    assert described["position"] == {"kind": "Last"}
    assert described["universal"]["prompts"] == "diverse"


def test_a_description_is_plain_json():
    for method in (CNA(), CNA.reference(), CNA(system="Be brief.", skip_layers=(1,))):
        assert json.loads(json.dumps(describe(method))) == describe(method)


def test_another_option_gives_another_description():
    assert describe(CNA()) != describe(CNA(score="auroc"))


def test_a_class_is_not_described_as_a_value():
    assert describe(CNA) is CNA


def test_versions_are_those_installed():
    found = versions()
    assert {"neurodial", "torch", "transformers"} <= set(found)
    assert all(version[0].isdigit() for version in found.values())


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "_PACKAGES", ("torch", "no-such-package-at-all"))
    assert list(versions()) == ["neurodial", "torch"]


def test_the_version_is_that_of_the_code_that_runs():
    """Of a source tree that is not installed, too: a result without it can't be made again."""
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    assert versions()["neurodial"] == neurodial.__version__ == project["version"]


def test_now_is_the_present_in_utc():
    moment = datetime.fromisoformat(now())
    assert moment.utcoffset() == timedelta(0)
    assert moment.microsecond == 0
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)
