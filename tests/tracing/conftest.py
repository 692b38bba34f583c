"""Tiny models in float64, norms included, so that identities can be asserted to the last digits.

The shared subjects are given back as they were.
"""

import pytest
import torch
from tests.subjects import shared_subjects_are_given_back

from neurodial.model.tiny import tiny_subject

__all__ = ["shared_subjects_are_given_back", "wide"]


def exact_norm(self, x):
    """RMSNorm in the input's own precision; transformers rounds to float32, which would hide errors below 1e-7."""
    epsilon = getattr(self, "variance_epsilon", None)
    epsilon = self.eps if epsilon is None else epsilon
    scale = self.weight + 1 if "Gemma" in type(self).__name__ else self.weight
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * scale


@pytest.fixture
def wide(monkeypatch):
    """Makes tiny float64 models whose norms are float64 too, with norm weights and biases that are not trivial."""

    def make(family, *, biased=False, **config):
        subject = tiny_subject(family, **config)
        generator = torch.Generator().manual_seed(7)
        for name, parameter in subject.model.named_parameters():
            if name.endswith("bias"):
                parameter.data = torch.randn(parameter.shape, generator=generator) * (0.3 if biased else 0.0)
            elif parameter.dim() == 1:
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        subject.model.to(torch.float64)
        for module in subject.model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                monkeypatch.setattr(type(module), "forward", exact_norm)
        return subject

    return make
