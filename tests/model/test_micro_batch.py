"""How many tokens go through at once: fixed on a processor, by free memory on an accelerator."""

import pytest
import torch
from tests.subjects import shared

from neurodial.methods.dose import cost as costs
from neurodial.methods.dose.cost import cost
from neurodial.model import micro_batch as rooms
from neurodial.model.micro_batch import MOST, bytes_per_token, micro_batch_tokens
from neurodial.model.subject import Subject
from neurodial.prompts.passage import Passage


class OnACard(Subject):
    """The tiny model as if it were on a CUDA device."""

    @property
    def device(self):
        return torch.device("cuda")


@pytest.fixture
def card(monkeypatch):
    def make(free):
        monkeypatch.setattr(rooms, "free_bytes", lambda _device: free)
        plain = shared()
        return OnACard.of(plain.model, plain.tokenizer)

    return make


def test_a_processor_takes_the_usual_number():
    assert micro_batch_tokens(shared(), 1024) == 1024


def test_a_card_takes_what_half_of_its_free_memory_holds(card):
    needed = bytes_per_token(shared())
    assert needed == 2 * (4 * 24 + 12 * 16) * 4 + 260
    assert micro_batch_tokens(card(2 * 500 * needed), 1024) == 500
    assert micro_batch_tokens(card(2 * 500 * needed - 1), 1024) == 499
    assert micro_batch_tokens(card(10**15), 1024) == MOST * 1024
    assert micro_batch_tokens(card(1), 1024) == 1


def test_slopes_do_not_depend_on_it(card, monkeypatch):
    """One prompt a batch on a card that is nearly full, all in one on the processor: the same cost."""
    passages = [Passage((256, 72, 105, 110), 2, 2), Passage((256, 99), 1, 1)]
    monkeypatch.setattr(OnACard, "device", torch.device("cpu"))
    plain = cost(shared(), passages).scores.flat()
    monkeypatch.setattr(costs, "gradient_tokens", lambda _subject: 1)
    full = cost(card(1), passages).scores.flat()
    torch.testing.assert_close(full, plain, rtol=1e-4, atol=1e-7)
