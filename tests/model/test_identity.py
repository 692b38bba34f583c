"""What makes two models the same one."""

import dataclasses

import pytest
import torch
from tests.subjects import FAMILIES, fresh, shared

from neurodial.model.identity import identify, tensors_digest, weights_digest
from neurodial.model.tiny import tiny_model, tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_weights_have_the_same_digest_and_others_another(family):
    assert weights_digest(tiny_model(family)) == shared(family).identity.digest
    assert weights_digest(tiny_model(family, seed=1)) != shared(family).identity.digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_precision_does_not_matter(dtype):
    subject = fresh()
    subject.model.to(dtype)
    assert subject.identity.digest == shared().identity.digest
    assert shared().identity.differences(subject.identity) == []


def test_a_change_of_any_weight_tensor_shows():
    model = tiny_model("llama")
    before = weights_digest(model)
    for name, parameter in model.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.mul_(1.5)
        assert weights_digest(model) != before, name
        with torch.no_grad():
            parameter.copy_(kept)
    assert weights_digest(model) == before


def test_names_and_shapes_count():
    values = torch.arange(6.0)
    plain = tensors_digest({"a": values})
    assert tensors_digest({"b": values}) != plain
    assert tensors_digest({"a": values.reshape(2, 3)}) != plain
    assert tensors_digest({"a": values, "b": values}) != plain
    assert tensors_digest({"b": values, "a": values}) == tensors_digest({"a": values, "b": values})
    assert tensors_digest({"a": torch.empty(0)}) != tensors_digest({})


def test_digests_are_those_of_files_written_before():
    """A circuit file carries this digest: another way to compute it would orphan every circuit."""
    tensors = {"a": torch.linspace(-1, 1, 100), "b": torch.arange(4).reshape(2, 2)}
    assert tensors_digest(tensors) == "3aa82eb92fedb2ff1a7218fccb43095757e6f0558930297d2a4eb5cc940d7580"


def test_template_vocabulary_and_precision_are_told_apart():
    model = tiny_model("llama")

    def identity(tokenizer):
        names = {"label": "m", "family": "llama", "layout": "0" * 64, "widths": (24, 24), "experts": ()}
        return identify(model, tokenizer, base_digest=None, adapter_digest=None, **names)

    plain, without = identity(tiny_tokenizer()), identity(tiny_tokenizer(chat=False))
    assert without.template_hash is None
    assert dataclasses.replace(plain, template_hash=None) == without
    grown = tiny_tokenizer()
    grown.add_tokens(["newword"])
    assert identity(grown).tokenizer_hash != plain.tokenizer_hash
    assert plain.dtype == "float32"
