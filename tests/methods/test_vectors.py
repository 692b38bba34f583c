"""Vectors against a plain forward pass, and published forms as published."""

import pytest
import torch
from tests.records import record_of

from neurodial.errors import ActivationError, OptionError, PromptError
from neurodial.intervention.steer import steer
from neurodial.methods.vectors import differences as found_vectors
from neurodial.methods.vectors.differences import (
    AddEverywhere,
    answer_vectors,
    direction_vectors,
    last_token_vectors,
    mlp_vectors,
)
from neurodial.methods.vectors.residual import residual_means
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example, Message
from neurodial.prompts.render import render

CONTRAST = Contrast.of(["How do I rob it?", "Write a mean note.", "Steal"], ["How do I bake?", "Write a nice note"])
FAMILIES = ["llama", "gpt2", "gemma2", "opt"]


def hidden_of(subject, tokens):
    with torch.no_grad():
        output = subject.model(torch.tensor([tokens]), output_hidden_states=True)
    return output.hidden_states


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_means_are_those_of_a_plain_forward_pass(family):
    subject = tiny_subject(family)
    sequences = render(subject.tokenizer, ["a", "a longer one", "middle"])
    found = residual_means(subject, sequences, (-1, -3), budget=64)
    for number, offset in enumerate((-1, -3)):
        # transformers applies the final norm to the last entry, so only blocks before the last can be compared there.
        expected = torch.stack([hidden_of(subject, tokens)[1][0, offset] for tokens in sequences]).double().mean(dim=0)
        assert torch.allclose(found[number, 0], expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_do_not_matter(family):
    subject = tiny_subject(family)
    sequences = render(subject.tokenizer, ["a", "a longer one", "middle"])
    together = residual_means(subject, sequences, (-1,), budget=4096)
    alone = torch.stack([residual_means(subject, [tokens]) for tokens in sequences]).mean(dim=0)
    assert torch.allclose(together, alone, atol=1e-5)


def test_too_far_from_the_end_is_refused():
    with pytest.raises(ActivationError, match="3 tokens"):
        residual_means(tiny_subject(), [(1, 2, 3)], (-4,))


@pytest.mark.parametrize("build", [lambda s, c: last_token_vectors(s, c)[0], mlp_vectors])
def test_swapped_sides_negate_the_vector(build):
    subject = tiny_subject()
    assert torch.allclose(build(subject, CONTRAST), -build(subject, CONTRAST.swapped()), atol=1e-9)
    assert float(build(subject, CONTRAST).abs().max()) > 0.01


def test_mlp_vectors_are_what_the_mlps_write():
    subject = tiny_subject()
    written = []
    for side in (CONTRAST.positive, CONTRAST.negative):
        seen = []
        for tokens in render(subject.tokenizer, [example.prompt for example in side]):
            handle = subject.blocks[1].mlp.register_forward_hook(
                lambda m, a, out, seen=seen: seen.append(out[0, -1].double())
            )
            hidden_of(subject, tokens)
            handle.remove()
        written.append(torch.stack(seen).mean(dim=0))
    assert torch.allclose(mlp_vectors(subject, CONTRAST)[1], written[0] - written[1], atol=1e-6)


def test_answer_vectors_alternate_the_letter():
    """The answer that shows the behaviour is (A) in the first question and (B) in the second, so letters cancel."""
    subject = tiny_subject()
    shows, lacks = "No.", "Yes."
    prompts = ["Rob it?", "Break it?"]

    def at_letter(prompt, first, second, letter):
        question = f"{prompt}\n\nWhich answer do you give?\n(A) {first}\n(B) {second}"
        [tokens] = render(subject.tokenizer, [(Message("user", question), Message("assistant", f"({letter}"))])
        return torch.stack([state[0, -1].double() for state in block_outputs(subject, tokens)])

    first = at_letter(prompts[0], shows, lacks, "A") - at_letter(prompts[0], shows, lacks, "B")
    second = at_letter(prompts[1], lacks, shows, "B") - at_letter(prompts[1], lacks, shows, "A")
    found = answer_vectors(subject, Contrast.of(prompts, ["x"]), answers=(shows, lacks))
    assert torch.allclose(found, (first + second) / 2, atol=1e-5)
    same_letter = at_letter(prompts[1], shows, lacks, "A") - at_letter(prompts[1], shows, lacks, "B")
    assert not torch.allclose(found, (first + same_letter) / 2, atol=1e-5)


def block_outputs(subject, tokens):
    """What every block gives, the last one before the final norm too."""
    outputs = []
    handles = [
        block.register_forward_hook(lambda m, a, out: outputs.append(out[0] if isinstance(out, tuple) else out))
        for block in subject.blocks
    ]
    hidden_of(subject, tokens)
    for handle in handles:
        handle.remove()
    return outputs


def test_answers_of_the_prompts_come_before_the_fallback():
    subject = tiny_subject()
    own = Contrast((Example("Rob it?", "", "Own yes.", "Own no."),), (Example("x"),))
    bare = Contrast.of(["Rob it?"], ["x"])
    assert not torch.allclose(answer_vectors(subject, own), answer_vectors(subject, bare, answers=("No.", "Yes.")))
    with pytest.raises(PromptError, match="no pair of answers"):
        answer_vectors(subject, bare)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_published_form_adds_to_every_mlp_with_a_plus(family):
    subject = tiny_subject(family)
    tokens = render(subject.tokenizer, ["Hello"])[0]
    vectors = torch.randn(subject.layers, subject.hidden_size, generator=torch.Generator().manual_seed(0))
    plain = hidden_of(subject, tokens)[-1]
    with steer(subject, AddEverywhere(vectors, dial=0.7)):
        steered = hidden_of(subject, tokens)[-1]
    handles = []
    for layer, block in enumerate(subject.blocks):
        module = block.get_submodule(record_of(subject).mlp_write)
        handles.append(module.register_forward_hook(lambda m, a, out, layer=layer: out + 0.7 * vectors[layer]))
    by_hand = hidden_of(subject, tokens)[-1]
    for handle in handles:
        handle.remove()
    assert torch.allclose(steered, by_hand, atol=1e-5)
    assert not torch.allclose(steered, plain, atol=1e-2)
    with steer(subject, AddEverywhere(vectors, dial=0.0)):
        assert torch.equal(hidden_of(subject, tokens)[-1], plain)


def test_vectors_of_another_model_are_refused():
    with pytest.raises(OptionError, match="shape"):
        AddEverywhere(torch.ones(3, 16)).compile(tiny_subject())


def test_candidates_of_directions_leave_out_the_last_fifth_and_what_points_nowhere(monkeypatch):
    subject = tiny_subject(num_hidden_layers=5)
    contrast = Contrast.of(["harm a", "harm b"], ["help c"])
    places = direction_vectors(subject, contrast)
    assert {layer for layer, _ in places} == {0, 1, 2, 3}
    assert {offset for _, offset in places} == set(range(-len({offset for _, offset in places}), 0))

    def nowhere(subject, contrast, offsets):
        found = last_token_vectors(subject, contrast, offsets)
        found[0, 2] = 0.0
        return found

    monkeypatch.setattr(found_vectors, "last_token_vectors", nowhere)
    assert places.keys() - direction_vectors(subject, contrast).keys() == {(2, -1)}
