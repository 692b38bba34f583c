"""Tokens that a model has no row for, weights without a place, and what a checkpoint says of generation."""

import json
import shutil

import pytest
import torch
from tests.scripted import ids, says, speaking
from tests.subjects import differences, fresh, shared, snapshot

import neurodial as nd
from neurodial.circuit.file import circuit_json
from neurodial.errors import ModelError, PromptError
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.provenance import setup_notes

FOUR = nd.Decoding(max_new_tokens=4)
CONTRAST = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])


# ------------------------------------------------------------------------------------------- tokens without a row


def larger_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<extra{number}>" for number in range(4)])
    return tokenizer


def test_a_token_without_a_row_is_refused_by_name_before_any_work():
    subject = Subject.of(tiny_model("llama"), larger_tokenizer())
    message = r"Prompt 2 has the token '<extra1>' \(id 260\).*no row for it\. Wanted: ids below 260"
    bad = ["fine", "what is <extra1>?"]
    for use in (
        lambda: subject.render(bad),
        lambda: nd.generate(subject, bad, decoding=FOUR),
        lambda: nd.discover(subject, nd.Contrast.of(bad, ["a", "b"]), method=nd.CNA(universal=None)),
    ):
        with pytest.raises(PromptError, match=message):
            use()
    with pytest.raises(PromptError, match=r"<extra1>.*no row"):
        subject.encode("a <extra1>", special=False)
    assert nd.generate(subject, ["<extra0>"], decoding=FOUR)  # id 259 has one


def test_a_padding_token_without_a_row_pads_nothing():
    tokenizer = larger_tokenizer()
    tokenizer.pad_token = "<extra3>"
    subject = Subject.of(tiny_model("llama"), tokenizer)
    texts = ["a", "a longer one"]
    assert [a.tokens for a in nd.generate(subject, texts, decoding=FOUR)] == [
        a.tokens for a in nd.generate(shared(), texts, decoding=FOUR)
    ]


# ------------------------------------------------------------------------------------------- weights without a place


@pytest.fixture
def folder(tmp_path):
    fresh().model.save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def edit_weights(folder, change):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_weights_without_a_place_are_said_in_the_record(folder):
    edit_weights(folder, lambda tensors: tensors | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)})
    subject = nd.load(folder)
    assert subject.setup == {"unused_weights": ["model.layers.0.self_attn.q_proj.bias"]}
    [note] = setup_notes(subject.setup)
    assert note.startswith("1 tensors of the checkpoint have no place")
    assert nd.discover(subject, CONTRAST, method=nd.CNA(universal=None)).origin.model.setup == subject.setup


def test_weights_of_another_shape_are_refused_even_where_they_would_be_ignored(folder):
    edit_weights(folder, lambda tensors: tensors | {"model.norm.weight": torch.ones(8)})
    with pytest.raises(ModelError, match=r"shape"):
        nd.load(folder)
    with pytest.raises(ModelError, match=r"1 weights of .* another shape .*model.norm.weight: \(8,\) against \(16,\)"):
        nd.load(folder, ignore_mismatched_sizes=True)


# ------------------------------------------------------------------------------------------- generation settings


def plain_greedy(subject, text, count):
    [sequence] = ([*tokens] for tokens in subject.render([text]))
    start = len(sequence)
    with torch.no_grad():
        while len(sequence) < start + count:
            sequence.append(int(subject.model(torch.tensor([sequence])).logits[0, -1].argmax()))
    return tuple(sequence[start:])


def settings():
    first = plain_greedy(shared(), "Why?", 1)[0]
    return {
        "suppress_tokens": [first],
        "begin_suppress_tokens": [first],
        "forced_bos_token_id": 7,
        "forced_eos_token_id": 257,
        "guidance_scale": 3.0,
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
        "bad_words_ids": [[first]],
        "sequence_bias": [[[first], -100.0]],
        "num_beams": 3,
        "min_new_tokens": 4,
        "exponential_decay_length_penalty": [1, 2.0],
        "stop_strings": ["never said"],
        "temperature": 0.3,
        "do_sample": True,
        "top_k": 3,
        "min_p": 0.4,
    }


@pytest.mark.parametrize("name", [*settings(), "all"])
def test_greedy_is_greedy_whatever_the_checkpoint_says(name):
    subject = fresh()
    every = settings()
    for key, value in every.items() if name == "all" else [(name, every[name])]:
        setattr(subject.model.generation_config, key, value)
    before = snapshot(subject.model)
    [answer] = nd.generate(subject, ["Why?"], decoding=FOUR)
    assert answer.tokens == plain_greedy(subject, "Why?", 4)
    assert differences(before, snapshot(subject.model)) == []


def test_sampling_is_that_of_its_options_alone():
    subject = fresh()
    sampled = nd.Decoding(max_new_tokens=4, temperature=2.0, seed=3)
    wanted = nd.generate(subject, ["Why?"], decoding=sampled)
    for key, value in settings().items():
        setattr(subject.model.generation_config, key, value)
    assert nd.generate(subject, ["Why?"], decoding=sampled) == wanted


def test_what_acts_and_what_is_switched_off_is_named_in_the_record():
    subject = fresh()
    config = subject.model.generation_config
    config.repetition_penalty, config.stop_strings, config.temperature = 1.1, ["\nUser:"], 0.6
    config.suppress_tokens = [5]
    wanted = {
        "in_force": {"stop_strings": ["\nUser:"]},
        "switched_off": {"repetition_penalty": 1.1, "suppress_tokens": [5]},
    }
    assert subject.setup == {"generation": wanted}
    circuit = nd.discover(subject, CONTRAST, method=nd.CNA(universal=None))
    assert json.loads(circuit_json(circuit))["model"]["setup"] == {"generation": wanted}
    assert [note.split(":")[0] for note in setup_notes(subject.setup)] == [
        "Of the checkpoint's generation settings these act",
        "Of the checkpoint's generation settings these are switched off",
    ]


@pytest.mark.parametrize(("stop", "text", "count"), [("STOP", "ab", 2), ("bS", "a", 1), ("<halt>", "abSTOP", 6)])
def test_a_text_of_the_checkpoint_ends_an_answer(stop, text, count):
    subject = speaking(["<halt>"])
    subject.model.generation_config.stop_strings = [stop, "zzz"]
    with says(subject, ids(subject, "abSTOP<halt>cd")):
        for decoding in (nd.Decoding(max_new_tokens=20), nd.Decoding(max_new_tokens=20, batch_size=1)):
            for answer in nd.generate(subject, ["one", "another"], decoding=decoding):
                assert (answer.text, len(answer.tokens), answer.is_finished) == (text, count, True)


def test_an_older_circuit_file_without_a_setup_is_read_and_one_without_anything_is_written_as_ever(tmp_path):
    circuit = nd.discover(shared(), CONTRAST, method=nd.CNA(universal=None))
    path = circuit.write(tmp_path / "c.circuit.json")
    assert "setup" not in path.read_text(encoding="utf-8")
    assert nd.Circuit.read(path) == circuit
    shutil.rmtree(tmp_path)
