"""A behaviour is watched while a tiny model with a planted neuron is really trained."""

import copy
import json

import pytest
import torch
from tests.planting import PLANTED, holding, negative, positive
from tests.subjects import differences, fresh, snapshot

import neurodial as nd
from neurodial.circuit.circuit import Origin, Row
from neurodial.errors import FileError, ModelError, ModelMismatchError, OptionError
from neurodial.evaluation.intervals import wilson
from neurodial.evaluation.watch_rows import WatchedStep
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.margin import Openers
from neurodial.model.in_training import bare_model, borrowed
from neurodial.model.tiny import tiny_tokenizer

CONTRAST = nd.Contrast.of(positive(), negative())
METHOD = nd.CNA(select=nd.Count(3), universal=None, folds=0)
SHORT = nd.Decoding(max_new_tokens=1)
TAUGHT = 65
"""The token that training teaches instead of the planted neuron's."""


def begins_with(token: int, tokenizer) -> nd.Watching:
    """Shown where the answer is the planted neuron's token, which is what it makes the answer begin with."""
    text = tokenizer.decode([token])
    assert len(text) == 1
    return nd.Watching(detector=f"bare:regex:\\x{ord(text):02x}", method=METHOD, decoding=SHORT)


@pytest.fixture(scope="module")
def held():
    """A subject whose planted neuron makes the answer begin with one token, and that token."""
    subject = holding("llama")
    tokens = [subject.tokenizer(text)["input_ids"] for text in positive()]
    [first] = {int(subject.model(torch.tensor([row])).logits[0, -1].argmax()) for row in tokens}
    return subject, first


def batches(subject, target: int):
    for text in positive():
        row = subject.tokenizer(text)["input_ids"]
        yield torch.tensor([[*row, target]]), torch.tensor([[-100] * len(row) + [target]])


def train(model, subject, *, steps: int, watch=None):
    """A plain loop that teaches the model to answer with another token."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        if watch is not None:
            watch(model, step)
        for ids, labels in batches(subject, TAUGHT):
            model(input_ids=ids, labels=labels).loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_a_behaviour_that_is_trained_away_is_seen_to_go(held):
    subject, token = held
    model = copy.deepcopy(subject.model)
    watch = nd.Watch(
        CONTRAST,
        subject.tokenizer,
        every=60,
        margin=Openers.of([(token,)]),
        options=begins_with(token, subject.tokenizer),
    )
    train(model, subject, steps=121, watch=watch)
    assert [row.step for row in watch.rows] == [0, 60, 120]
    first, _, last = watch.rows
    assert (first.rate, last.rate) == (wilson(6, 6), wilson(0, 6))
    assert last.margin < first.margin - 1
    assert PLANTED in first.neurons
    assert (first.overlap, first.by_chance) == (1.0, 3 / subject.neurons)
    assert first.share > 3 / subject.neurons


def test_a_circuit_that_falls_silent_is_seen_to_carry_nothing(held):
    """Its neuron's incoming weights are set to 0: the difference goes, and other neurons are found."""
    subject, token = held
    model = copy.deepcopy(subject.model)
    circuit = nd.Circuit.of([Row(PLANTED, 1.0, 1.0)])
    watch = nd.Watch(CONTRAST, subject.tokenizer, circuit=circuit, options=begins_with(token, subject.tokenizer))
    before = watch.look(model, 0)
    with torch.no_grad():
        model.model.layers[PLANTED.layer].mlp.up_proj.weight[PLANTED.index] = 0
    after = watch.look(model, 1)
    assert before.difference > 1
    assert (after.difference, after.share) == (0.0, 0.0)
    assert PLANTED not in after.neurons
    assert after.overlap < 1
    assert after.rate.value < before.rate.value == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_training_goes_as_if_nobody_had_looked(held, wrapped):
    """With dropout, so that the random state matters: the same bits at the end, with gradients under way."""
    subject, _ = held
    trained = []
    for every in (None, 2):
        model = fresh("gpt2", resid_pdrop=0.3, embd_pdrop=0.3).model
        options = nd.Watching(
            detector="refusal", method=METHOD, decoding=nd.Decoding(max_new_tokens=2, temperature=1.0)
        )
        watch = None if every is None else nd.Watch(CONTRAST, tiny_tokenizer(), every=every, options=options)
        torch.manual_seed(5)
        trained.append(train(torch.nn.DataParallel(model) if wrapped else model, subject, steps=5, watch=watch))
        assert watch is None or len(watch.rows) == 3
    first, second = (model.state_dict() for model in trained)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_is_given_back_in_the_middle_of_a_step(held):
    subject, token = held
    model = fresh().model
    model.train()
    model.model.layers[0].mlp.eval()  # a part that is frozen stays so
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    before, random = snapshot(model), torch.get_rng_state()
    nd.Watch(CONTRAST, tiny_tokenizer(), options=begins_with(token, subject.tokenizer)).look(model, 0)
    assert differences(before, snapshot(model)) == []
    assert torch.equal(torch.get_rng_state(), random)
    assert grads
    assert all(torch.equal(p.grad, grads[name]) for name, p in model.named_parameters() if name in grads)


def test_the_model_is_given_back_after_an_error():
    model = fresh().model.train()
    with pytest.raises(ZeroDivisionError), borrowed(model):
        _ = 1 / 0
    assert all(module.training for module in model.modules())


def test_a_lora_in_training_is_looked_through(held):
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    subject, token = held
    adapted = get_peft_model(copy.deepcopy(subject.model), LoraConfig(target_modules=["up_proj"], r=2))
    watch = nd.Watch(CONTRAST, subject.tokenizer, options=begins_with(token, subject.tokenizer))
    before = watch.look(adapted, 0)
    up = adapted.base_model.model.model.layers[PLANTED.layer].mlp.up_proj
    with torch.no_grad():
        up.lora_B["default"].weight.normal_(std=5.0)
    assert watch.look(adapted, 1).difference != before.difference
    prompt = get_peft_model(
        copy.deepcopy(subject.model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    with pytest.raises(ModelError, match="learns a prompt"):
        bare_model(prompt)


def test_a_file_holds_the_rows_and_a_resumed_training_goes_on(held, tmp_path):
    subject, token = held
    options, file = begins_with(token, subject.tokenizer), tmp_path / "runs" / "watch.jsonl"
    watch = nd.Watch(CONTRAST, subject.tokenizer, every=1, options=options, file=file)
    train(copy.deepcopy(subject.model), subject, steps=2, watch=watch)
    again = nd.Watch(CONTRAST, subject.tokenizer, every=1, options=options, file=file)
    assert again.rows == watch.rows
    assert again(subject.model, 1) is None  # it stands there
    assert again(subject.model, 2).overlap == 1.0
    header, *rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert (header["format"], header["version"], [row["step"] for row in rows]) == ("neurodial.watch", 1, [0, 1, 2])
    with pytest.raises(FileError, match="another watch"):
        nd.Watch(CONTRAST.first(2), subject.tokenizer, options=options, file=file)
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"step": 3')
    with pytest.raises(FileError, match="Line 5"):
        nd.Watch(CONTRAST, subject.tokenizer, options=options, file=file)


def test_the_margin_that_a_circuit_records_is_followed(held):
    subject, token = held
    openers = Openers.of([(token,)])
    origin = Origin(margin=BehaviourMargin.of(openers, kind="openers").record())
    circuit = nd.Circuit.of([Row(PLANTED, 1.0, 1.0)], origin=origin)
    watch = nd.Watch(CONTRAST, subject.tokenizer, circuit=circuit, options=nd.Watching(method=METHOD))
    own = nd.Watch(CONTRAST, subject.tokenizer, margin=openers, options=nd.Watching(method=METHOD))
    row = watch.look(subject.model, 0)
    assert row.rate is None
    assert row.margin == own.look(subject.model, 0).margin > 0


def test_the_picture_and_the_line_say_what_was_seen(held):
    subject, token = held
    watch = nd.Watch(CONTRAST, subject.tokenizer, options=begins_with(token, subject.tokenizer))
    with pytest.raises(OptionError, match="looked at"):
        watch.svg()
    row = watch.look(subject.model, 100)
    assert str(row).startswith("step 100; shown 100% [61%, 100%] of 6; difference")
    for label in ("behaviour shown", "neurons found again", "by chance", "circuit carries"):
        assert label in watch.svg()
    assert "behaviour shown" not in str(WatchedStep(0, None, 1.0, 1.0, 0.5, 1.0, 0.0, (), 0.1))


def test_what_can_not_be_watched_is_refused(held):
    subject, token = held
    with pytest.raises(OptionError, match="how the behaviour is recognised"):
        nd.Watch(CONTRAST, subject.tokenizer)
    with pytest.raises(OptionError, match="every is 0"):
        nd.Watch(CONTRAST, subject.tokenizer, every=0)
    with pytest.raises(OptionError, match="prompts is 0"):
        nd.Watching(prompts=0)
    foreign = nd.Circuit.of([Row(nd.Neuron(9, None, 0), 1.0, 1.0)])
    watch = nd.Watch(CONTRAST, subject.tokenizer, circuit=foreign, options=begins_with(token, subject.tokenizer))
    with pytest.raises(ModelMismatchError, match="layer 9"):
        watch(subject.model, 0)


def test_a_set_is_watched_on_its_own_splits(held):
    subject, token = held
    pairs = (
        nd.PairSet.of(positive() * 1, negative(), name="shown")
        if False
        else nd.PairSet.of([f"{n}!" for n in range(20)], [f"{n}?" for n in range(20)])
    )
    watch = nd.Watch(pairs, subject.tokenizer, options=begins_with(token, subject.tokenizer))
    assert watch.look(subject.model, 0).rate.n == len(pairs.development.positive)


def test_the_trainer_calls_it(held, tmp_path):
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    from transformers import Trainer, TrainingArguments

    subject, token = held
    model = copy.deepcopy(subject.model)
    rows = [{"input_ids": ids[0], "labels": labels[0]} for ids, labels in batches(subject, TAUGHT)]
    options = begins_with(token, subject.tokenizer)
    watch = nd.Watch(CONTRAST, subject.tokenizer, every=16, options=options)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=40, gradient_accumulation_steps=6, per_device_train_batch_size=1,
        learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows, callbacks=[watch.trainer_callback()]).train()
    assert [row.step for row in watch.rows] == [0, 16, 32, 40]
    assert (watch.rows[0].rate.value, watch.rows[-1].rate.value) == (1.0, 0.0)
