"""Relevance end to end: batches, targets, aggregation and bad input."""

import pytest
import torch
from tests.tolerance import of_log_probs
from torch import nn

from neurodial.circuit.selection import Count
from neurodial.errors import ActivationError, ContextLengthError, GradientError, TargetError
from neurodial.methods.choose import Rule, choose
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject
from neurodial.tracing.question import Question, ask, one_token
from neurodial.tracing.relevance import neuron_scores, relevance
from neurodial.tracing.rules import Rules

QUESTIONS = [
    Question((256, 72, 105, 106, 107, 33), 10, 11),
    Question((256, 80), 20),
    Question((256, 72, 105, 106, 107, 34), 12, 10),
    Question((256, 90, 91, 92), 7, 8),
]


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_many_prompts_in_batches_are_as_one_by_one(family):
    subject = tiny_subject(family)
    together = relevance(subject, QUESTIONS, budget=12)
    for question, found in zip(QUESTIONS, together, strict=True):
        [alone] = relevance(subject, [question])
        assert found.question == question
        assert found.value == pytest.approx(alone.value, abs=of_log_probs(subject))
        for one, other in zip((*found.neurons, *found.hidden), (*alone.neurons, *alone.hidden), strict=True):
            # float32, and a batched matrix product sums in another order.
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_value_is_the_models_own_logit_difference(family):
    subject = tiny_subject(family)
    for question in QUESTIONS:
        tokens = torch.tensor([question.tokens])
        with torch.no_grad():
            logits = subject.model(tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1]
        foil = 0.0 if question.foil is None else float(logits[question.foil])
        wanted = pytest.approx(float(logits[question.target]) - foil, abs=of_log_probs(subject))
        assert relevance(subject, [question])[0].value == wanted


def test_a_foil_is_subtracted():
    subject = tiny_subject()
    tokens = QUESTIONS[0].tokens
    target, foil, both = relevance(subject, [Question(tokens, 10), Question(tokens, 11), Question(tokens, 10, 11)])
    torch.testing.assert_close(target.inputs - foil.inputs, both.inputs, rtol=1e-4, atol=1e-5)
    [swapped] = relevance(subject, [Question(tokens, 11, 10)])
    torch.testing.assert_close(swapped.inputs, -both.inputs, rtol=1e-4, atol=1e-5)


def test_a_planted_neuron_is_found_first():
    subject = tiny_subject(num_hidden_layers=3)
    head = subject.model.get_output_embeddings().weight
    [before] = relevance(subject, [QUESTIONS[0]])
    planted = int(before.activations[1][-1].abs().argmax())
    with torch.no_grad():
        subject.blocks[1].mlp.down_proj.weight[:, planted] = 40 * (head[10] - head[11])
    [found] = relevance(subject, [QUESTIONS[0]])
    flat = torch.cat([part[-1].abs() for part in found.neurons])
    assert int(flat.argmax()) == 24 + planted


def test_weights_with_gradients_outside_do_not_collect_any():
    subject = tiny_subject()
    with torch.no_grad():
        relevance(subject, [QUESTIONS[0]])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in subject.model.parameters())


# ----------------------------------------------------------------------------------------- many prompts together


def test_scores_over_all_positions_make_an_ordinary_circuit():
    subject = tiny_subject()
    found = relevance(subject, QUESTIONS)
    scores = neuron_scores(found)
    expected = sum(float(one.neurons[1][:, 3].sum()) for one in found) / len(found)
    assert float(scores[subject.sites[1]][3]) == pytest.approx(expected, rel=1e-4)
    assert len(choose(scores, Rule(Count(4)))) == 4


# ----------------------------------------------------------------------------------------- bad input


def test_a_target_equal_to_its_foil_is_refused():
    with pytest.raises(TargetError, match="same token"):
        ask(tiny_subject(), "Hello", "a", "a")


def test_a_target_of_several_tokens_is_refused_with_its_pieces():
    with pytest.raises(TargetError, match=r"3 tokens: 'a' \+ 'b' \+ 'c'"):
        ask(tiny_subject(), "Hello", "abc", "d")


@pytest.mark.parametrize("target", ["", 9999, -1])
def test_a_target_that_is_no_token_is_refused(target):
    with pytest.raises(TargetError):
        one_token(tiny_subject().tokenizer, target)


def test_a_prompt_longer_than_the_context_is_refused():
    subject = tiny_subject(max_position_embeddings=16)
    with pytest.raises(ContextLengthError, match="at most 16"):
        ask(subject, "long " * 10, "a", "b")
    with pytest.raises(ContextLengthError):
        relevance(subject, [Question((256,) * 17, 1, 2)])


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(TargetError, match="no tokens"):
        Question((), 1, 2)


class Kernel(nn.Module):
    """A map whose kernel gives no gradient, as quantised ones may."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.in_features, self.weight = inner, inner.in_features, inner.weight

    def forward(self, x):
        with torch.no_grad():
            return self.inner(x)


def test_a_model_without_gradients_is_refused():
    subject = tiny_subject()
    subject.blocks[0].mlp.down_proj = Kernel(subject.blocks[0].mlp.down_proj)
    with pytest.raises(GradientError, match="none reaches"):
        relevance(subject, [QUESTIONS[0]])
    subject.model.lm_head = Kernel(subject.model.lm_head)
    with pytest.raises(GradientError, match="none leaves"):
        relevance(subject, [QUESTIONS[0]])


def test_relevance_that_is_not_finite_is_refused():
    subject = tiny_subject()
    with torch.no_grad():
        subject.blocks[0].mlp.down_proj.weight[0, 0] = float("inf")
    with pytest.raises(ActivationError, match="NaN or infinite"):
        relevance(subject, [QUESTIONS[0]])


# ----------------------------------------------------------------------------------------- questions


def test_a_question_in_words():
    subject = tiny_subject()
    templated, raw = ask(subject, "Hi", "a", "b"), ask(subject, "Hi", "a", "b", raw=True)
    assert raw.tokens == (256, *subject.tokenizer("Hi", add_special_tokens=False)["input_ids"])
    assert len(templated.tokens) > len(raw.tokens)
    begun = ask(subject, "Hi", "a", answer=" xy")
    assert begun.tokens[: len(templated.tokens)] == templated.tokens
    assert len(begun.tokens) == len(templated.tokens) + 3
    assert Rules() != Rules.none()
