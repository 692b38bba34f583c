"""A model that reads padding, or can't go on from a cache, still answers a prompt in a batch as it answers it alone."""

import pytest
from tests.subjects import circuit_of, shared
from tests.zoo import zoo_subject

import neurodial as nd
from neurodial.generation import generate as generating
from neurodial.generation.as_alone import AsAlone, as_alone
from neurodial.intervention.steer import steer
from neurodial.model.hooks import on_forward
from neurodial.model.tiny import tiny_subject

BEGINNING = "A beginning that all of them share: "
PROMPTS = [BEGINNING + end for end in ("of a cat?", "what of the second dog?", "bears?", "of a wolf?")]
DECODING = nd.Decoding(max_new_tokens=8)


@pytest.mark.parametrize(
    ("model_type", "images", "expected"),
    [
        ("llama", False, AsAlone(padded=True, cached=True)),
        ("minimax", False, AsAlone(padded=True, cached=False)),  # a state beside keys and values
        ("paligemma", True, AsAlone(padded=True, cached=False)),  # reads a prompt in both directions
        ("qwen2_vl", True, AsAlone(padded=True, cached=False)),  # keeps places of the last batch
        ("bart", False, AsAlone(padded=False, cached=False)),  # counts padding as places
        ("rwkv", False, AsAlone(padded=False, cached=False)),  # takes padding into its state
    ],
)
def test_answers_in_a_batch_are_those_of_each_prompt_alone(model_type, images, expected):
    subject = zoo_subject(model_type, images=images)
    assert as_alone(subject) == expected
    together = nd.generate(subject, PROMPTS, decoding=DECODING)
    assert [answer.tokens for answer in together] == [
        nd.generate(subject, [prompt], decoding=DECODING)[0].tokens for prompt in PROMPTS
    ]


def test_without_the_measure_padding_would_be_answered(monkeypatch):
    subject = zoo_subject("rwkv")
    expected = [answer.tokens for answer in nd.generate(subject, PROMPTS, decoding=DECODING)]
    monkeypatch.setattr(generating, "as_alone", lambda _: AsAlone(padded=True, cached=False))
    assert [answer.tokens for answer in nd.generate(subject, PROMPTS, decoding=DECODING)] != expected


def test_it_is_measured_once_for_a_model_and_never_inside_steering():
    subject = tiny_subject()
    with steer(subject, nd.Scale(circuit_of(shared(), 4), 2.0)):
        assert as_alone(subject) == AsAlone(padded=True, cached=False)
    assert as_alone(subject).cached
    passes = []
    hook = on_forward(subject, lambda *fed: passes.append(fed))
    try:
        assert as_alone(subject).cached
    finally:
        hook.remove()
    assert passes == []


@pytest.mark.parametrize("setting", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_a_checkpoint_that_asks_for_its_own_cache_keeps_it(setting):
    subject = tiny_subject()
    for name, value in setting.items():
        setattr(subject.model.generation_config, name, value)
    assert not as_alone(subject).cached
