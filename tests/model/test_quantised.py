"""Quantised bases: what the table says of each format is what is seen, and what a packed map must not do in silence."""

import json

import pytest
import torch
import transformers
from tests.quantised import CHECKS, FORMATS, discover, packed, quantised_row, steer
from tests.subjects import close, fresh, prompts
from tests.zoo_checks import YES, dose

import neurodial as nd
from neurodial.errors import ExportError, GradientError, ModelError, UnknownNameError
from neurodial.export.weights import write_weights
from neurodial.model.gradients import multiplier_slopes
from neurodial.model.identity import weights_digest
from neurodial.model.known_models import known_models
from neurodial.model.quantised_formats import TABLE, quantised_formats, untried_formats
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_tokenizer

ROWS = json.loads(TABLE.read_text(encoding="utf-8"))


def cases():
    for name, form in FORMATS.items():
        reason = f"{form.package} is not installed here; neurodial models says with which version {name} was tried"
        marks = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(not form.is_here, reason=reason)]
        yield pytest.param(name, marks=marks)


@pytest.mark.skipif(
    transformers.__version__ != ROWS["transformers"], reason="the table is of another version of transformers"
)
@pytest.mark.parametrize("name", list(cases()))
def test_a_format_does_what_the_table_says(name):
    expected, seen = ROWS["formats"][name], quantised_row(name)
    assert seen.keys() == expected.keys(), seen
    for capability in CHECKS:
        assert (seen.get(capability) == YES) == (expected.get(capability) == YES), (capability, seen)
    assert seen.get("weights are") == expected.get("weights are")


def test_every_format_stands_in_the_table_and_what_is_absent_has_a_reason():
    assert [form.name for form in quantised_formats()] == list(FORMATS)
    for form in quantised_formats():
        assert form.absent or form.told.keys() == set(CHECKS)
        assert all(form.reasons.values())
    assert "bitnet" in untried_formats()
    assert not {"gptq", "fp8", "gguf"} & set(untried_formats())


def test_the_command_prints_the_formats(capsys):
    from neurodial.cli.models_command import models

    models()
    shown = " ".join(capsys.readouterr().out.split())
    assert "GPTQ 4 bit" in shown
    assert "bitnet" in shown
    models(json=True)
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(known_models()) + len(FORMATS)
    assert next(row for row in rows if row["name"] == "FP8 in blocks")["kind"] == "quantised base"


def test_the_command_finds_a_format_by_its_name(capsys):
    from neurodial.cli.models_command import models

    models("gptq 4 BIT", "bitsandbytes", "llama")
    shown = " ".join(capsys.readouterr().out.split())
    heads = ["llama (text)", "GPTQ 4 bit (", "bitsandbytes 8 bit (", "bitsandbytes 4 bit ("]
    assert sorted(map(shown.index, heads)) == [shown.index(head) for head in heads]
    assert "weights: The model is quantised" in shown
    models("HQQ", json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["kind"]) == ("HQQ 4 bit", "quantised base")
    with pytest.raises(UnknownNameError, match="GPTQ 4 bit"):
        models("GPTQ 5 bit")


# ------------------------------------------------------------------------------------------- packed by hand


def packed_subject(paths="", *, is_differentiable=True):
    model = packed(fresh().model, paths, is_differentiable=is_differentiable)
    return Subject.of(model, tiny_tokenizer(chat=False), label="packed")


@pytest.fixture(scope="module")
def subject():
    return packed_subject()


def test_a_packed_model_is_read_steered_and_gives_slopes(subject):
    assert set(subject.quantised_maps) == {f"{b.path}.{p}" for b in subject.layout.blocks for p in MAPS}
    for check in (discover, steer, dose):
        check(subject)


MAPS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def test_columns_of_a_packed_map_are_what_it_computes_with(subject):
    site = subject.sites[0]
    down = subject.down(site)
    close(subject.down_columns(site, [3, 7]), (down.packed * down.scale)[:, [3, 7]])
    with pytest.raises(ModelError, match=r"layer 0 is quantised.*Load the model unquantised"):
        subject.down_weight(site)


def test_numbers_of_one_byte_and_tensors_of_a_librarys_class_are_no_plain_weights():
    class Scaled(torch.Tensor):
        pass

    subject = fresh()
    site = subject.sites[0]
    weight = subject.down(site).weight.detach()
    for stored in (weight.to(torch.float8_e4m3fn), weight.as_subclass(Scaled)):
        subject.down(site).weight = torch.nn.Parameter(stored, requires_grad=False)
        with pytest.raises(ModelError, match="quantised"):
            subject.down_weight(site)


def test_packed_weights_are_part_of_the_identity(subject):
    before, weight = weights_digest(subject.model), subject.down(subject.sites[1]).packed
    assert before == weights_digest(packed(fresh().model))
    with torch.no_grad():
        weight.neg_()
        changed = weights_digest(subject.model)
        weight.neg_()
    assert (changed != before, weights_digest(subject.model)) == (True, before)


@pytest.mark.parametrize("paths", ["", "up_proj"])
def test_a_packed_map_without_a_backward_pass_is_named_by_what_needs_gradients(paths):
    """Also where a gradient comes to every site all the same, past the map: slopes would lack a part."""
    subject = packed_subject(paths, is_differentiable=False)
    steer(subject)
    first = "self_attn.q_proj" if not paths else "mlp.up_proj"
    message = rf"the quantised map model\.layers\.0\.{first} has no backward pass.*unquantised"
    with pytest.raises(GradientError, match=message), multiplier_slopes(subject, lambda *_: None):
        pass
    contrast = nd.Contrast.of(prompts(4), ["one", "two", "three"])
    assert len(nd.discover(subject, contrast, method=nd.CNA(universal=None), select=nd.Count(2))) == 2


def test_packed_weights_are_not_written_as_if_they_were_plain(subject, tmp_path):
    with pytest.raises(ExportError, match=r"packed is quantised.*--as lora"):
        write_weights(subject, None, tmp_path)


def test_a_format_that_does_not_load_says_what_to_do(tmp_path):
    fresh().model.save_pretrained(tmp_path)
    if not torch.cuda.is_available():  # the format wants an accelerator
        on_loading = transformers.FineGrainedFP8Config()
        with pytest.raises(ModelError, match=r"loaded quantised \(fp8\).*`neurodial models` lists.*unquantised model"):
            nd.load(tmp_path, quantization_config=on_loading)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "nobodys"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"loaded quantised \(nobodys\).*no such format.*unquantised model"):
        nd.load(tmp_path)  # transformers would take packed numbers for weights, and only warn
