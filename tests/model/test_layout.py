"""Layouts measured in live models against what was read in their source; what can't be used is refused in words."""

import dataclasses
import json

import pytest
import torch
from tests import naive
from tests.quantised import packed
from tests.records import record_of
from tests.subjects import FAMILIES, SOME_FAMILIES, circuit_of, close, differ, fresh, logits, prompts, shared, tokens_of
from tests.wrappers import WRAPPERS, wrapped_subject

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import LayoutError, ModelError, SteeringError, UnknownNameError
from neurodial.model.find_layout import find_layout
from neurodial.model.layout import MapRows, Write
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_subject, tiny_tokenizer
from neurodial.provenance import setup_notes


def differences_from(record, model):
    """What measuring finds otherwise than the record says."""
    layout, decoder = find_layout(model), model.get_decoder()
    assert [model.get_submodule(block.path) for block in layout.blocks] == list(decoder.get_submodule(record.blocks))
    found = [
        ("decoder", model.get_submodule(layout.decoder), decoder),
        ("final norm", model.get_submodule(layout.final_norm.path), decoder.get_submodule(record.final_norm)),
        ("head", model.get_submodule(layout.head.path), model.get_output_embeddings()),
        ("cap", layout.head.cap, getattr(model.config.get_text_config(), "final_logit_softcapping", None)),
    ]
    for block in layout.blocks:
        site = block.site
        gate = MapRows(record.up, "first") if record.fused else None if record.gate is None else MapRows(record.gate)
        found += [
            ("down", site.down, record.down),
            ("up", site.up, MapRows(record.up, "second" if record.fused else "all")),
            ("gate", site.gate, gate),
            ("gated", site.is_gated, record.is_gated),
            ("activation", site.activation, record.activation),
            ("attention's write", block.attention, (Write(record.attention_write),)),
            ("the MLP's write", site.write, Write(record.mlp_write)),
            ("writes add up", block.writes_add_up, True),
            ("norms", tuple(norm.path for norm in block.norms), record.norms),
            ("norms of queries and keys", tuple(norm.path for norm in block.inner_norms), record.query_key_norms),
            ("kinds of norms", {n.kind for n in (*block.norms, *block.inner_norms, layout.final_norm)}, {record.norm}),
            ("fused", site.fused, record.fused),
            ("transposed", site.transposed, record.transposed),
            ("up rows scale", site.up_rows_scale, record.up_rows_scale),
            ("flattens", site.flattens, record.flattens),
            ("queries and keys", block.query_key, record.query_key),
            ("values", block.values, record.values),
            ("routed", block.routed, ()),
        ]
    return [entry for entry in found if entry[1] != entry[2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_measured_is_what_the_source_says(family, dtype):
    """Each of the dozen records, read in the models' source, is found without a name in every dtype."""
    subject = fresh(family)
    assert differences_from(record_of(subject), subject.model.to(dtype)) == []
    proof = find_layout(subject.model).proof
    assert proof.dtype == str(dtype).removeprefix("torch.")
    assert proof.stream_error <= 8 * torch.finfo(dtype).eps
    assert proof.logits_error <= 16 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "opt"])
def test_an_adapter_that_is_not_merged_hides_nothing(family):
    import peft

    subject = fresh(family)
    record = record_of(subject)
    modules = sorted({path.rpartition(".")[2] for path in (record.down, record.up, *record.query_key)})
    config = peft.LoraConfig(r=2, target_modules=modules, init_lora_weights=False, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(subject.model, config).eval().get_base_model()
    assert differences_from(record, wrapped) == []


def test_quantised_maps_are_found_too():
    assert differences_from(record_of(shared("gemma2")), packed(fresh("gemma2").model)) == []


@pytest.mark.parametrize("family", ["qwen3", "qwen2_moe"])
def test_offloaded_weights_are_found_too(family):
    from accelerate import cpu_offload

    model = fresh(family).model
    cpu_offload(model, execution_device="cpu")
    assert all(parameter.is_meta for parameter in model.parameters())
    if family == "qwen3":  # of mixtures there is no record
        assert differences_from(record_of(shared(family)), model) == []
    assert find_layout(model).digest == shared(family).layout.digest
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_weights_play_no_part():
    model = fresh("gemma3_text").model
    for parameter in model.model.layers.parameters():
        parameter.data.zero_()
    assert find_layout(model) == shared("gemma3_text").layout


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_a_model_is_given_back_as_it_was(family):
    from tests.subjects import differences, snapshot

    model = fresh(family).model.train()
    before = snapshot(model)
    find_layout(model)
    assert differences(before, snapshot(model)) == []


def test_one_block_of_each_shape_is_taken_apart_and_the_others_are_held_against_it():
    model = fresh(num_hidden_layers=5, hidden_size=24).model
    first, again = find_layout(model).proof, find_layout(model).proof
    assert (first.in_full, first.by_closure) in {(1, 4), (0, 5)}  # the second where another test had the same shape
    assert (again.in_full, again.by_closure, again.replays) == (0, 5, 5)


def test_a_block_that_only_looks_like_the_first_is_taken_apart_too():
    """Same class, same sizes, another activation: closure must see it."""
    model = fresh().model
    find_layout(model)
    model.model.layers[1].mlp.act_fn = torch.nn.ReLU()
    model.model.layers[1].mlp.act_fn.__class__ = type("SiLUActivation", (torch.nn.ReLU,), {})
    plain = model.model.layers[1].mlp
    plain.forward = lambda given: plain.down_proj(plain.gate_proj(given).relu() * (plain.up_proj(given) + 1))
    layout = find_layout(model)
    assert layout.blocks[0].site.up_rows_scale
    assert not layout.blocks[1].site.up_rows_scale


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layout_says_what_is_there(family):
    subject = shared(family)
    assert subject.layers == 2
    assert subject.widths == (24, 24)
    assert subject.neurons == 48
    assert subject.hidden_size == 16
    assert subject.context_length == 512
    assert subject.sites == (Site(0), Site(1))
    for site in subject.sites:
        assert subject.down(site) is naive.down(subject.model, site.layer)
        assert subject.down_weight(site).shape == (16, 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_an_up_row_is_scaling_the_neuron_exactly_where_the_record_says_so(family):
    """`up_rows_scale`: row j of the up projection, its bias with it; elsewhere the same edit does something else."""
    subject, edited = shared(family), fresh(family)
    neuron = Neuron(1, None, 4)
    up = edited.blocks[1].get_submodule(record_of(subject).up)
    place = neuron.index + (24 if record_of(subject).fused else 0)
    with torch.no_grad():
        row = up.weight[:, place] if record_of(subject).transposed else up.weight[place]
        row *= -2.0
        if getattr(up, "bias", None) is not None:
            up.bias[place] *= -2.0
    [tokens] = tokens_of(subject)
    with nd.steer(subject, nd.Scale(Circuit.of([Row(neuron, 1.0, 3.0)]))):
        steered = logits(subject, tokens)
    if record_of(subject).up_rows_scale:
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
    assert record_of(subject).name == WRAPPERS[name][1]
    assert differences_from(record_of(subject), subject.model) == []
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


def built(model_type, **settings):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(model_type, **{**sizes, **heads, **settings})
        ).eval()


def test_routed_experts_are_found_beside_shared_ones_or_alone():
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    model = built("qwen2_moe", shared_expert_intermediate_size=12, decoder_sparse_step=2, **experts)
    subject = Subject.of(model, tiny_tokenizer())
    assert subject.widths == (24, 12)
    assert subject.identity.experts == (None, (2, 8))
    assert subject.neurons == 24 + 12 + 2 * 8
    assert "routed_experts" not in subject.identity.setup
    alone = Subject.of(built("mixtral", num_local_experts=2, num_experts_per_tok=1), tiny_tokenizer())
    assert alone.widths == (0, 0)
    assert alone.identity.experts == ((2, 24), (2, 24))


def test_routed_experts_that_cannot_be_read_stand_in_the_setup():
    assert any("Routed experts are not read" in note for note in setup_notes({"routed_experts": ["mlp.experts"]}))


def test_a_model_without_an_mlp_says_what_was_looked_at():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=260, hidden_size=16, state_size=4, num_hidden_layers=1)
    with pytest.raises(LayoutError, match=r"No MLP was found.*mamba.*mixer.out_proj \(other tokens reach it through"):
        Subject.of(AutoModelForCausalLM.from_config(config).eval(), None)


def test_an_encoder_is_refused():
    message = r"earlier tokens see later ones, through attention\.self.*this is an encoder"
    with pytest.raises(LayoutError, match=message):
        Subject.of(built("bert", is_decoder=False), None)
    assert Subject.of(built("bert", is_decoder=True), None).widths == (24, 24)


def test_weights_that_were_not_loaded_are_refused():
    model = fresh().model
    model.model.layers[1].mlp.up_proj.to("meta")
    with pytest.raises(LayoutError, match=r"not all loaded, such as model.layers.1.mlp.up_proj.weight"):
        Subject.of(model, None)


def with_changed_block(change):
    model = fresh(num_attention_heads=4).model
    for block in model.model.layers:
        block.forward = change(block, block.forward)
    return model


def test_blocks_that_run_twice_are_refused():
    model = fresh().model
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(LayoutError, match=r"runs its block model.layers.0 2 times"):
        Subject.of(model, None)


def test_two_mlps_in_a_block_are_refused():
    def twice(block, forward):
        block.other = type(block.mlp)(fresh().model.config)

        def both(hidden, *args, **kwargs):
            hidden = forward(hidden, *args, **kwargs)
            return hidden + block.other(hidden)

        return both

    with pytest.raises(LayoutError, match=r"2 MLPs: mlp.down_proj and other.down_proj"):
        Subject.of(with_changed_block(twice), None)


def test_of_several_residual_streams_the_neurons_are_steered_and_the_stream_is_refused():
    from tests.zoo import zoo_subject

    subject = zoo_subject("deepseek_v4")
    assert not subject.layout.has_one_stream
    [tokens] = tokens_of(subject)
    plain = logits(subject, tokens)
    with nd.steer(subject, nd.Scale(circuit_of(subject))):
        differ(logits(subject, tokens), plain, by=1e-4)
    with (
        pytest.raises(SteeringError, match=r"several residual streams.*Neurons can be read and steered"),
        nd.steer(subject, nd.AddVector(torch.ones(subject.hidden_size), layer=0)),
    ):
        pass


def test_code_that_comes_with_a_model_runs_only_where_it_was_asked_for(tmp_path):
    settings = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    with pytest.raises(ModelError, match=r"can't be loaded without code that comes with it.*--trust-remote-code"):
        nd.load(tmp_path)


def test_chance_is_refused():
    def noisy(block, forward):
        return lambda hidden, *args, **kwargs: forward(hidden, *args, **kwargs) + torch.rand(())

    with pytest.raises(LayoutError, match=r"gives another output for the same input"):
        Subject.of(with_changed_block(noisy), None)


def test_a_model_that_cannot_run_on_text_is_refused():
    model = fresh().model
    model.model.embed_tokens.weight.data = model.model.embed_tokens.weight.data[:, :8]
    with pytest.raises(LayoutError, match=r"can't be run on 12 tokens of text"):
        Subject.of(model, None)


def test_a_layout_written_by_hand_is_taken_and_its_modules_are_checked():
    subject = fresh()
    by_hand = dataclasses.replace(subject.layout, proof=None)
    assert Subject.of(subject.model, subject.tokenizer, layout=by_hand).widths == (24, 24)
    [first, second] = by_hand.blocks
    assert second.site is not None
    wrong = dataclasses.replace(second, site=dataclasses.replace(second.site, down="mlp.lost"))
    with pytest.raises(ModelError, match=r"no module 'model.layers.1.mlp.lost', which the layout names in layer 1"):
        Subject.of(subject.model, None, layout=dataclasses.replace(by_hand, blocks=(first, wrong)))


# ------------------------------------------------------------------------------------------- identity


def test_the_digest_is_of_the_parts_and_not_of_label_or_proof():
    layout = shared("llama").layout
    assert layout.digest == dataclasses.replace(layout, label="other", proof=None).digest
    assert layout.digest != dataclasses.replace(layout, hidden_size=17).digest
    assert shared("llama").identity.layout == layout.digest
    assert shared("llama").layout.digest == shared("mistral").layout.digest
    assert len({shared(family).layout.digest for family in SOME_FAMILIES}) == len(SOME_FAMILIES)


def test_an_identity_from_before_layouts_is_compared_by_the_rest():
    new = shared("llama").identity
    old = dataclasses.replace(new, layout=None, family="another name")
    assert old.differences(new) == []
    other = dataclasses.replace(new, layout="0" * 64)
    assert len(new.differences(other)) == 1


def test_a_tiny_model_of_no_such_type():
    with pytest.raises(UnknownNameError, match="lama"):
        tiny_subject("lama")
