"""Every family's record against models of that family; what no record describes is refused in words."""

import dataclasses

import pytest
import torch
from tests import naive
from tests.subjects import FAMILIES, SOME_FAMILIES, circuit_of, close, differ, fresh, logits, prompts, shared, tokens_of
from tests.wrappers import WRAPPERS, wrapped_subject

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import ModelError, UnknownFamilyError, UnknownNameError
from neurodial.model.families import FAMILIES as RECORDS
from neurodial.model.families import family_of
from neurodial.model.subject import Subject, get_module
from neurodial.model.tiny import tiny_subject


def test_every_record_has_a_tiny_model():
    assert {shared(family).family.name for family in FAMILIES} == {record.name for record in RECORDS}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_record_names_what_is_there(family):
    subject = shared(family)
    record = subject.family
    assert subject.layers == 2
    assert subject.widths == (24, 24)
    assert subject.neurons == 48
    assert subject.hidden_size == 16
    assert subject.context_length == 512
    assert subject.sites == (Site(0), Site(1))
    for site in subject.sites:
        assert subject.down(site) is naive.down(subject.model, site.layer)
        assert subject.down_weight(site).shape == (16, 24)
    for block in subject.blocks:
        for path in record.norms:
            assert get_module(block, path) is not None, path
    assert get_module(subject.decoder, record.final_norm) is not None
    up = subject.blocks[0].get_submodule(record.up)
    rows = up.weight.shape[1 if record.transposed else 0]
    assert rows == (48 if record.fused else 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_an_up_row_is_scaling_the_neuron_exactly_where_the_record_says_so(family):
    """`up_rows_scale`: row j of the up projection, its bias with it; elsewhere the same edit does something else."""
    subject, edited = shared(family), fresh(family)
    neuron = Neuron(1, None, 4)
    up = edited.blocks[1].get_submodule(subject.family.up)
    place = neuron.index + (24 if subject.family.fused else 0)
    with torch.no_grad():
        row = up.weight[:, place] if subject.family.transposed else up.weight[place]
        row *= -2.0
        if getattr(up, "bias", None) is not None:
            up.bias[place] *= -2.0
    [tokens] = tokens_of(subject)
    with nd.steer(subject, nd.Scale(Circuit.of([Row(neuron, 1.0, 3.0)]))):
        steered = logits(subject, tokens)
    if subject.family.up_rows_scale:
        close(steered, logits(edited, tokens))
    else:
        differ(steered, logits(edited, tokens), by=1e-4)
    differ(steered, logits(subject, tokens), by=1e-4)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_the_writes_are_all_that_is_added_to_the_stream(family):
    """Stream after a block = stream before it + attention's write + the MLP's write, by our own hooks."""
    from neurodial.model.hooks import installed, on_block_output, on_embedding, on_write

    subject, seen = shared(family), {}

    def keep(name):
        def edit(hidden):
            seen[name] = hidden.detach().clone()

        return edit

    def install(handles):
        handles.append(on_embedding(subject, keep("start")))
        for layer in range(subject.layers):
            handles.append(on_write(subject, layer, "attention", keep(("attention", layer))))
            handles.append(on_write(subject, layer, "mlp", keep(("mlp", layer))))
            handles.append(on_block_output(subject, layer, keep(("block", layer))))

    [tokens] = tokens_of(subject)
    with installed(install):
        logits(subject, tokens)
    stream = seen["start"]
    assert stream.shape == (1, len(tokens), 16)
    for layer in range(subject.layers):
        stream = stream + seen["attention", layer] + seen["mlp", layer]
        close(stream, seen["block", layer])


# ------------------------------------------------------------------------------------------- multimodal


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_text_model_of_a_multimodal_wrapper_is_read_and_steered(name):
    subject = wrapped_subject(name)
    assert subject.family.name == WRAPPERS[name][1]
    assert subject.widths == (24, 24)
    assert subject.hidden_size == 16
    [tokens] = tokens_of(subject)
    plain, circuit = logits(subject, tokens), circuit_of(subject)
    with nd.steer(subject, nd.Scale(circuit)):
        steered = logits(subject, tokens)
    for entry in circuit:
        with torch.no_grad():
            subject.down_weight(entry.neuron.site)[:, entry.neuron.index] = 0
    close(steered, logits(subject, tokens))
    differ(steered, plain)


@pytest.mark.parametrize("name", ["gemma3", "llava", "qwen2_vl"])
def test_a_multimodal_wrapper_goes_through_the_whole_method(name, tmp_path):
    subject = wrapped_subject(name)
    subject.model.save_pretrained(tmp_path)
    subject.tokenizer.save_pretrained(tmp_path)
    loaded = nd.load(tmp_path)
    assert type(loaded.model) is type(subject.model)
    assert subject.identity.differences(loaded.identity) == []
    contrast = nd.Contrast.of(prompts(4), ["one", "two", "three"])
    circuit = nd.discover(subject, contrast, method=nd.CNA(universal=None), select=nd.Count(4))
    assert nd.discover(loaded, contrast, method=nd.CNA(universal=None), select=nd.Count(4)).rows == circuit.rows
    texts, decoding = list(prompts(2)), nd.Decoding(max_new_tokens=3)
    [first, second] = nd.generate(loaded, texts, under=[None, nd.Scale(circuit, dial=-5.0)], decoding=decoding)
    assert [first] == nd.generate(subject, texts[:1], decoding=decoding)
    assert [second] == nd.generate(subject, texts[1:], under=nd.Scale(circuit, dial=-5.0), decoding=decoding)


def test_the_vision_tower_is_left_alone():
    from tests.subjects import differences, snapshot

    subject = wrapped_subject("gemma3")
    before = snapshot(subject.model)
    with nd.steer(subject, nd.Scale(circuit_of(subject)), nd.ProjectOut(torch.ones(16))):
        changed = differences(before, snapshot(subject.model))
    assert changed
    assert all("language_model" in name for name in changed)


# ------------------------------------------------------------------------------------------- refusals


def tiny_experts(model_type):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    experts = {"num_experts_per_tok": 1, "moe_intermediate_size": 8}
    count = {"mixtral": "num_local_experts", "qwen3_moe": "num_experts"}[model_type]
    config = AutoConfig.for_model(model_type, **sizes, **heads, **experts, **{count: 2})
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_a_mixture_of_experts_is_refused_in_words(model_type, tmp_path):
    model = tiny_experts(model_type)
    message = rf"{model_type!r} is a mixture of experts \(num_\w*experts = 2\).*neurons of experts can't be read yet"
    with pytest.raises(UnknownFamilyError, match=message):
        Subject.of(model, None)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # refused by the configuration: the weights are never asked for
    with pytest.raises(UnknownFamilyError, match=message):
        nd.load(tmp_path)


@pytest.mark.parametrize("model_type", ["gpt_oss", "deepseek_v3", "olmoe", "granitemoe", "qwen2_moe", "jamba"])
def test_other_mixtures_are_known_by_their_configuration(model_type):
    from transformers import AutoConfig

    with pytest.raises(UnknownFamilyError, match="mixture of experts"):
        family_of(AutoConfig.for_model(model_type).get_text_config())


def test_an_unknown_family_says_which_record_to_write():
    from transformers import AutoConfig

    with pytest.raises(UnknownFamilyError, match=r"(?s)'mamba'.*Family\(name='mamba'.*final_norm='norm'\)"):
        family_of(AutoConfig.for_model("mamba"))


def test_the_record_that_an_error_prints_can_be_pasted():
    from neurodial.model.families import Family, _record_to_write

    code = "Family(" + _record_to_write("new").split("Family(", 1)[1].replace(" or None", "")
    made = eval(code, {"Family": Family})  # noqa: S307 - our own message
    assert dataclasses.replace(made, name="llama", model_types=("llama",)).down == RECORDS[0].down


def test_a_model_that_departs_from_its_family_names_the_module():
    subject = fresh()
    del subject.blocks[1].mlp.gate_proj
    with pytest.raises(ModelError, match=r"Layer 1 of odd has no module 'mlp.gate_proj'.*the gate of the llama family"):
        Subject.of(subject.model, subject.tokenizer, label="odd")


def test_a_tiny_model_of_an_unknown_type():
    with pytest.raises(UnknownNameError, match="Did you mean gemma"):
        tiny_subject("gema")
