"""Answers: against transformers' own, prompt by prompt; options, seeds, stops and refusals."""

import pytest
import torch
from tests.subjects import SOME_FAMILIES, circuit_of, fresh, prompts, shared

import neurodial as nd
from neurodial.errors import ContextLengthError, OptionError, PromptError, SteeringError
from neurodial.generation.generate import stop_tokens
from neurodial.prompts.prompt import Message

SIX = nd.Decoding(max_new_tokens=6)


def by_transformers(subject, text, **options):
    tokens = subject.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    output = subject.model.generate(**tokens, max_new_tokens=6, do_sample=False, **options)
    return output[0, tokens["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_answers_are_those_of_transformers(family):
    subject = shared(family)
    texts = list(prompts(5))
    for text, answer in zip(texts, nd.generate(subject, texts, decoding=SIX), strict=True):
        expected = by_transformers(subject, text)
        if answer.is_finished:
            assert list(answer.tokens) == expected[: expected.index(257)]
        else:
            assert list(answer.tokens) == expected
        assert answer.prompt == text
        assert answer.text == str(answer) == subject.tokenizer.decode(answer.tokens, skip_special_tokens=True)


def test_steered_answers_are_those_of_a_steered_model():
    subject = shared()
    scale = nd.Scale(circuit_of(subject), dial=-4.0)
    with nd.steer(subject, scale):
        expected = by_transformers(subject, "Hello")
        [inside] = nd.generate(subject, ["Hello"], decoding=SIX)
    [under] = nd.generate(subject, ["Hello"], under=scale, decoding=SIX)
    assert inside == under
    assert list(under.tokens) == expected[: len(under.tokens)]
    assert [under] != nd.generate(subject, ["Hello"], decoding=SIX)


def test_an_answer_ends_at_its_end_token():
    """Pushed towards the end token, every answer is empty and finished."""
    subject = shared()
    towards = subject.model.lm_head.weight[257].detach()
    push = nd.AddVector(towards, layer=1, alpha=100.0)
    [ended] = nd.generate(subject, ["Hello"], under=push, decoding=SIX)
    assert (ended.tokens, ended.text, ended.is_finished) == ((), "", True)
    [cut] = nd.generate(subject, ["Hello"], decoding=nd.Decoding(max_new_tokens=1))
    assert len(cut.tokens) == 1
    assert not cut.is_finished


def test_a_row_that_ends_early_does_not_disturb_its_batch():
    subject = shared()
    push = nd.AddVector(subject.model.lm_head.weight[257].detach(), layer=1, alpha=100.0)
    texts = list(prompts(4))
    together = nd.generate(subject, texts, under=[None, push, None, push], decoding=SIX)
    assert together == [
        nd.generate(subject, [text], under=one, decoding=SIX)[0]
        for text, one in zip(texts, [None, push, None, push], strict=True)
    ]
    assert [answer.is_finished for answer in together][1::2] == [True, True]


def test_stop_tokens_come_from_model_and_tokenizer():
    subject = fresh()
    assert stop_tokens(subject) == {257}
    subject.model.generation_config.eos_token_id = [257, 70]
    assert stop_tokens(subject) == {257, 70}
    subject.tokenizer.eos_token = None
    subject.model.generation_config.eos_token_id = None
    assert stop_tokens(subject) == frozenset()
    subject.model.config.eos_token_id = None
    [answer] = nd.generate(subject, ["Hello"], decoding=SIX)
    assert len(answer.tokens) == 6


def test_a_tokenizer_without_a_padding_token():
    subject = fresh()
    expected = nd.generate(subject, list(prompts(4)), decoding=SIX)
    subject.tokenizer.pad_token = None
    assert nd.generate(subject, list(prompts(4)), decoding=SIX) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_the_batch_size_changes_nothing_but_the_batches(size):
    subject, rows = shared(), []
    texts = list(prompts(7))
    expected = nd.generate(subject, texts, decoding=nd.Decoding(max_new_tokens=3))
    handle = subject.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    try:
        found = nd.generate(subject, texts, decoding=nd.Decoding(max_new_tokens=3, batch_size=size))
    finally:
        handle.remove()
    assert found == expected
    assert max(rows) == min(size, 7)


def test_a_batch_holds_no_more_tokens_than_it_may_with_the_answers(monkeypatch):
    subject, rows = shared(), []
    texts = list(prompts(7))
    longest = max(map(len, subject.render(texts))) + 3
    monkeypatch.setattr("neurodial.generation.generate.BATCH_TOKENS", 2 * longest + 1)
    expected = [nd.generate(subject, [text], decoding=nd.Decoding(max_new_tokens=3))[0] for text in texts]
    handle = subject.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    try:
        found = nd.generate(subject, texts, decoding=nd.Decoding(max_new_tokens=3))
    finally:
        handle.remove()
    assert found == expected
    assert max(count for count, _ in rows) in {2, 3}
    monkeypatch.setattr("neurodial.generation.generate.BATCH_TOKENS", 1)  # one at least
    assert nd.generate(subject, texts[:2], decoding=nd.Decoding(max_new_tokens=3)) == expected[:2]


def test_sampling_follows_the_seed_and_the_options():
    subject = shared()

    def sample(**options):
        answers = nd.generate(subject, ["Hello"] * 3, decoding=nd.Decoding(**{"max_new_tokens": 8, **options}))
        return [answer.tokens for answer in answers]

    hot = sample(temperature=2.0, seed=1)
    assert hot == sample(temperature=2.0, seed=1)
    assert hot != sample(temperature=2.0, seed=2)
    assert len(set(hot)) > 1, "each row draws its own"
    greedy = sample()
    assert len(set(greedy)) == 1
    assert sample(temperature=1e-4, seed=3) == greedy
    assert sample(temperature=2.0, top_p=1e-6, seed=1) == greedy


def test_a_system_message_is_seen():
    subject = shared()
    plain, told = (
        nd.generate(subject, ["Hello"], decoding=nd.Decoding(max_new_tokens=6, system=s)) for s in (None, "X")
    )
    [chat] = nd.generate(subject, [(Message("system", "X"), Message("user", "Hello"))], decoding=SIX)
    assert told[0].tokens == chat.tokens
    assert told[0].tokens != plain[0].tokens


def test_no_prompts_give_no_answers():
    assert nd.generate(shared(), []) == []


def test_progress_counts_answers():
    from contextlib import contextmanager

    told = []

    @contextmanager
    def progress(description, total):
        told.append(total)
        yield told.append

    nd.generate(shared(), list(prompts(5)), decoding=nd.Decoding(max_new_tokens=1, batch_size=2), progress=progress)
    assert told == [5, 2, 2, 1]


def test_what_does_not_fit_is_refused_before_any_work():
    subject, passes = fresh(max_position_embeddings=64), []
    subject.decoder.register_forward_pre_hook(lambda *_: passes.append(1))
    with pytest.raises(
        ContextLengthError, match=r"Prompt 2 has \d+ tokens and 30 new ones.*at most 64.*fewer new tokens"
    ):
        nd.generate(subject, ["a", "a" * 40], decoding=nd.Decoding(max_new_tokens=30))
    with pytest.raises(OptionError, match=r"2 interventions came for 1 prompts"):
        nd.generate(subject, ["a"], under=[None, None])
    assert passes == []


def test_a_list_of_dials_among_prompts_is_refused():
    scale = nd.Scale(circuit_of(shared()), dial=[0.0, 1.0])
    with pytest.raises(SteeringError, match="list of dials"):
        nd.generate(shared(), ["a", "b"], under=scale, decoding=SIX)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"temperature": -1.0}, "from 0 to 10"),
        ({"temperature": 11.0}, "from 0 to 10"),
        ({"top_p": 0.0}, "top_p above 0"),
        ({"top_p": 1.5}, "top_p above 0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        nd.Decoding(**options)


def test_without_a_template_a_chat_is_refused_and_text_is_not():
    from neurodial.model.tiny import tiny_subject

    subject = tiny_subject(chat=False)
    assert len(nd.generate(subject, ["Hello"], decoding=SIX)) == 1
    with pytest.raises(PromptError, match="no chat template"):
        nd.generate(subject, [(Message("user", "Hello"),)], decoding=SIX)


def test_one_pass_for_each_new_token():
    """The cache is used: after the prompt, each pass holds one token for each row."""
    subject, shapes = shared(), []
    handle = subject.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        scale = nd.Scale(circuit_of(subject))
        nd.generate(subject, ["one", "two"], under=[scale, None], decoding=nd.Decoding(max_new_tokens=4))
    finally:
        handle.remove()
    assert shapes[1:] == [(2, 1)] * (len(shapes) - 1)
    assert torch.tensor(shapes[0])[0] == 2


def test_the_output_head_gets_contiguous_rows_and_keeps_no_hook():
    subject = fresh()
    head = subject.model.get_output_embeddings()
    seen = []
    watching = head.register_forward_hook(lambda _module, args, _output: seen.append(args[0].is_contiguous()))
    nd.generate(subject, ["one", "two"], decoding=nd.Decoding(max_new_tokens=2, batch_size=2))
    watching.remove()
    assert seen
    assert all(seen)
    assert not head._forward_pre_hooks
