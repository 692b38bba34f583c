"""From hidden states to labels' gradients: in closed form where the last layer is a plain matrix, else by autograd."""

import pytest
import torch
from torch import nn

from neurodial.model import head
from neurodial.model.head import label_gradients
from neurodial.model.subject import Subject
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject

CELLS = 9


def inputs(subject, dtype=torch.float64):
    """Hidden states, and labels of two draws."""
    generator = torch.Generator().manual_seed(0)
    hidden = 3 * torch.randn(CELLS, subject.model.config.get_text_config().hidden_size, generator=generator)
    size = subject.model.get_output_embeddings().weight.shape[0]
    drawn = [torch.randint(size, (CELLS,), generator=generator) for _ in range(2)]
    return hidden.to(dtype), drawn


def by_autograd(subject, hidden, drawn):
    """The gradients from the definition, one draw after the other."""
    found = []
    for labels in drawn:
        leaf = hidden.clone().requires_grad_(True)
        table = head.logits(subject, leaf).log_softmax(dim=-1)
        table[torch.arange(CELLS), labels].sum().backward()
        found.append(leaf.grad)
    return found


def kept(drawn):
    """A list that the probabilities come into, and what gives the labels."""
    seen: list[torch.Tensor] = []

    def sample(table):
        seen.append(table)
        return drawn

    return seen, sample


def double(family):
    subject = tiny_subject(family)
    return Subject.of(subject.model.double(), subject.tokenizer)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_gradients_in_closed_form_are_those_of_autograd(family, monkeypatch):
    subject = double(family)
    hidden, drawn = inputs(subject)
    expected = by_autograd(subject, hidden, drawn)
    monkeypatch.setattr(head, "_label_gradients_by_autograd", None)  # and the short way is taken
    for found, wanted in zip(label_gradients(subject, hidden, lambda table: drawn), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def biased(layer):
    return nn.Linear(layer.in_features, layer.out_features, bias=True, dtype=layer.weight.dtype)


@pytest.mark.parametrize("change", ["bias", "wrapped", "hooked"])
def test_other_last_layers_give_theirs_too(change):
    subject = double("llama")
    model = subject.model
    if change == "bias":
        model.set_output_embeddings(biased(model.get_output_embeddings()))
    elif change == "wrapped":
        plain = biased(model.get_output_embeddings())
        model.set_output_embeddings(nn.Sequential(plain, nn.Tanh()))
        model.get_output_embeddings().weight = plain.weight
    else:
        model.get_output_embeddings().register_forward_hook(lambda layer, given, output: output * 0.5)
    hidden, drawn = inputs(subject)
    expected = by_autograd(subject, hidden, drawn)
    for found, wanted in zip(label_gradients(subject, hidden, lambda table: drawn), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
        assert wanted.abs().max() > 1e-3


def test_labels_are_drawn_from_the_models_probabilities():
    subject = double("gemma2")
    hidden, drawn = inputs(subject)
    seen, sample = kept(drawn)
    label_gradients(subject, hidden, sample)
    torch.testing.assert_close(seen[0], head.logits(subject, hidden).detach().softmax(dim=-1), rtol=1e-5, atol=1e-7)


def test_a_bfloat16_model_has_its_probabilities_in_float32():
    subject = tiny_subject("llama")
    exact = by_autograd(double("llama"), *inputs(subject))
    subject.model.to(torch.bfloat16)
    hidden, drawn = inputs(subject, torch.bfloat16)
    seen, sample = kept(drawn)
    found = label_gradients(subject, hidden, sample)
    assert [table.dtype for table in seen] == [torch.float32]
    for one, wanted in zip(found, exact, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.double(), wanted, rtol=0.1, atol=0.02 * float(wanted.abs().max()))
