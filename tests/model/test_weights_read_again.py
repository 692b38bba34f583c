"""Backward passes through an offloaded model: the same slopes, and no weight is kept between the two ways."""

import torch
from tests.model.test_block_by_block import subject  # noqa: F401  # the model on disk
from tests.subjects import shared

from neurodial.model import weights_read_again
from neurodial.model.block_by_block import offloading
from neurodial.model.gradients import frozen, multiplier_slopes

TOKENS = torch.tensor([list(range(5, 17)), list(range(40, 52))])


def slopes(model):
    """Slopes of every neuron in a value of the last hidden state."""
    found = {}
    with multiplier_slopes(model, lambda site, slope: found.__setitem__(site.layer, slope)):
        hidden = model.decoder(input_ids=TOKENS, use_cache=False).last_hidden_state
        (hidden**2).sum().backward()
    return found


def test_slopes_are_those_of_the_model_in_memory_bit_for_bit(subject):  # noqa: F811
    offloaded, plain = slopes(subject), slopes(shared())
    assert offloaded.keys() == plain.keys() == {0, 1}
    assert all(torch.equal(offloaded[layer], plain[layer]) for layer in plain)
    assert all(float(slope.abs().max()) > 0 for slope in plain.values())


def test_every_weight_is_read_again_on_the_way_back(subject, monkeypatch):  # noqa: F811
    read, plain = [], weights_read_again._Weight.read

    def counted(weight):
        read.append(weight)
        return plain(weight)

    monkeypatch.setattr(weights_read_again._Weight, "read", counted)
    with frozen(subject):
        given = torch.ones(1, 4, 16, requires_grad=True)
        value = subject.decoder(inputs_embeds=given, use_cache=False).last_hidden_state.sum()
        assert not read
        value.backward()
    blocks = sum(1 for block in subject.blocks for _ in block.parameters())
    assert len(read) == len({(id(weight.hook), weight.name) for weight in read}) == blocks + 1, "and the final norm's"


def test_a_model_in_memory_is_left_alone():
    model = shared().model
    with weights_read_again.weights_read_again(model):
        weight = model.model.layers[0].mlp.down_proj.weight
        (weight.detach() @ torch.ones(24, requires_grad=True)).sum().backward()
    assert not list(offloading(model))
