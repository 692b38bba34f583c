"""What a pair says of itself is checked before weights are read; what does not fit is refused with its name."""

import json
import shutil

import pytest
import yaml
from tests.nla.pairs import AR, AV, LAYER, MARK, WIDTH, meta_of
from tests.subjects import fresh

from neurodial.errors import VerbaliserError
from neurodial.model.stored_shape import shape_of
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.nla.meta import parse_meta, read_meta
from neurodial.nla.pair import read_pair


def without(value, *path):
    copy = json.loads(json.dumps(value))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


def av(**changes):
    return meta_of("av", tiny_tokenizer(), **changes)


@pytest.mark.parametrize(
    "path",
    [
        ("d_model",),
        ("extraction", "injection_scale"),
        ("tokens", "injection_char"),
        ("tokens", "injection_token_id"),
        ("tokens", "injection_left_neighbor_id"),
        ("tokens", "injection_right_neighbor_id"),
        ("prompt_templates", "av"),
        ("kind",),
    ],
)
def test_a_missing_field_is_named(path):
    with pytest.raises(VerbaliserError, match=path[-1].replace(".", r"\.")):
        parse_meta(without(av(), *path), "here", "verbaliser")


@pytest.mark.parametrize("value", [None, [], "text", {"kind": "nla_dataset"}])
def test_what_is_no_meta_file_is_refused(value):
    with pytest.raises(VerbaliserError, match="kind"):
        parse_meta(value, "here", "verbaliser")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_model": 0}, "whole number"),
        ({"d_model": True}, "number"),
        ({"extraction": {"injection_scale": -1}}, "above 0"),
        ({"prompt_templates": {"av": "no mark"}}, "injection_char"),
        ({"extraction": {"injection_scale": 1, "layer_index": 5}}, "one layer"),
        ({"role": "ar"}, "exchanged"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(changes, words):
    with pytest.raises(VerbaliserError, match=words):
        parse_meta(av(**changes), "here", "verbaliser")


def test_both_spellings_of_public_files_are_read():
    old = {
        "kind": "nla_model", "role": "critic", "d_model": 8, "critic": {"extraction_layer_index": 3},
        "prompt_templates": {"critic": AR},
    }  # fmt: skip
    assert (parse_meta(old, "x", "reconstructor").layer, parse_meta(old, "x", "reconstructor").template) == (3, AR)
    actor = av(role="actor", prompt_templates={"actor": AV}, extraction={"injection_scale": "sqrt_d_model"})
    assert parse_meta(actor, "x", "verbaliser").injection.scale == WIDTH**0.5
    bare = without(without(av(), "role"), "extraction_layer_index")
    assert parse_meta(bare, "x", "verbaliser").layer is None


def test_a_pair_is_read_without_its_weights(random_pair, tmp_path):
    for part, folder in (("av", random_pair.verbaliser), ("ar", random_pair.reconstructor)):
        shutil.copytree(folder, tmp_path / part, ignore=shutil.ignore_patterns("*.safetensors"))
    pair = read_pair(tmp_path / "av", tmp_path / "ar")
    assert (pair.layer, pair.width, pair.shape.layers) == (LAYER, WIDTH, 3)
    pair.check_base(shape_of(tiny_model("llama", num_hidden_layers=3).config), "right")
    for wrong, words in (
        (tiny_model("qwen2", num_hidden_layers=3), "model type qwen2 against llama"),
        (tiny_model("llama"), "blocks 2 against 3"),
        (tiny_model("llama", num_hidden_layers=3, hidden_size=32), "width 32 against 16"),
        (tiny_model("llama", num_hidden_layers=3, vocab_size=300), "vocabulary 300 against 260"),
    ):
        with pytest.raises(VerbaliserError, match=words):
            pair.check_base(shape_of(wrong.config), "wrong")
    pair.check_base(shape_of(tiny_model("qwen2", num_hidden_layers=3).config), "forced", force=True)
    with pytest.raises(VerbaliserError, match="width"):  # no force helps against another width
        pair.check_base(shape_of(tiny_model("llama", hidden_size=32).config), "wrong", force=True)


def changed(source, target, **changes):
    shutil.copytree(source, target)
    path = target / "nla_meta.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    return target


def test_two_that_do_not_belong_together_are_refused(random_pair, tmp_path):
    with pytest.raises(VerbaliserError, match="block 0"):
        read_pair(changed(random_pair.verbaliser, tmp_path / "a", extraction_layer_index=0), random_pair.reconstructor)
    with pytest.raises(VerbaliserError, match="width 16"):
        read_pair(random_pair.verbaliser, changed(random_pair.reconstructor, tmp_path / "b", d_model=32))
    with pytest.raises(VerbaliserError, match="says 32"):
        read_pair(changed(random_pair.verbaliser, tmp_path / "c", d_model=32), tmp_path / "b")
    with pytest.raises(VerbaliserError, match="exchanged"):
        read_pair(random_pair.reconstructor, random_pair.verbaliser)


def test_missing_and_damaged_files_are_named(random_pair, tmp_path):
    with pytest.raises(VerbaliserError, match=r"no nla_meta.yaml.*Did you mean"):
        read_meta(random_pair.verbaliser.parent, "verbaliser")
    with pytest.raises(VerbaliserError, match="There is no verbaliser"):
        read_meta("./nothing/here", "verbaliser")
    folder = changed(random_pair.verbaliser, tmp_path / "bad")
    (folder / "nla_meta.yaml").write_text("kind: [", encoding="utf-8")
    with pytest.raises(VerbaliserError, match="can't be read"):
        read_meta(folder, "verbaliser")
    for content in (None, b"no tensors"):
        broken = changed(random_pair.reconstructor, tmp_path / f"ar{content is None}")
        (broken / "value_head.safetensors").unlink()
        if content is not None:
            (broken / "value_head.safetensors").write_bytes(content)
        with pytest.raises(VerbaliserError, match=r"value_head.safetensors can't be read"):
            read_pair(random_pair.verbaliser, broken).reconstructor()


@pytest.mark.parametrize("name", ["injection_token_id", "injection_left_neighbor_id", "injection_right_neighbor_id"])
def test_a_marker_elsewhere_is_refused_before_weights_are_read(random_pair, tmp_path, name):
    tokens = {**meta_of("av", tiny_tokenizer())["tokens"], name: 7}
    folder = changed(random_pair.verbaliser, tmp_path / "av", tokens=tokens)
    (folder / "model.safetensors").unlink()  # a loader would complain of this
    with pytest.raises(VerbaliserError, match=f"The marker '{MARK}'"):
        read_pair(folder, random_pair.reconstructor).verbaliser()


def test_a_marker_that_stands_twice_is_refused(random_pair, tmp_path):
    twice = {"av": f"<concept>{MARK}</concept> {AV}"}
    folder = changed(random_pair.verbaliser, tmp_path / "av", prompt_templates=twice)
    with pytest.raises(VerbaliserError, match="once, between"):
        read_pair(folder, random_pair.reconstructor).verbaliser()


def test_a_pair_made_for_other_weights_or_another_adapter_is_refused(random_pair, tmp_path):
    subject = fresh("llama", num_hidden_layers=3)
    own = subject.identity.digest
    bases = {
        "digest 000000000000 against": {"digest": "0" * 64},
        "adapter_digest 111111111111 against none": {"digest": own, "adapter_digest": "1" * 64},
    }
    for number, (words, base) in enumerate(bases.items()):
        folder = changed(random_pair.verbaliser, tmp_path / f"av{number}", base={"label": "another", **base})
        pair = read_pair(folder, random_pair.reconstructor)
        with pytest.raises(VerbaliserError, match=f"other weights than .*{words}"):
            pair.check_subject(subject)
        pair.check_subject(subject, force=True)
    same = changed(random_pair.verbaliser, tmp_path / "same", base={"digest": own, "adapter_digest": None})
    read_pair(same, random_pair.reconstructor).check_subject(subject)
