"""What a neuron writes, against the model itself."""

import pytest
import torch
from tests.records import record_of
from tests.subjects import SOME_FAMILIES

from neurodial.circuit.site import Neuron
from neurodial.model.tiny import tiny_subject
from neurodial.tracing.neuron import written_tokens

NEURON = Neuron(1, None, 5)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_writing_is_the_column_through_gain_and_unembedding(family):
    subject = tiny_subject(family)
    norm = subject.decoder.get_submodule(record_of(subject).final_norm)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, norm.weight.numel()))
    up, down = written_tokens(subject, NEURON, count=3)
    column = subject.down_weight(NEURON.site)[:, NEURON.index].detach()
    gain = norm.weight.detach() + (1 if record_of(subject).norm == "rms_plus_one" else 0)
    wanted = subject.model.get_output_embeddings().weight.detach() @ (gain * column)
    wanted = wanted - wanted.mean()
    best = wanted.argsort(descending=True)
    assert [one.token for one in up] == best[:3].tolist()
    assert [one.token for one in down] == best.flip(0)[:3].tolist()
    for one in (*up, *down):
        assert one.weight == pytest.approx(float(wanted[one.token]), abs=1e-3)
