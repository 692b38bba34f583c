"""Reinforcement: the reward is what the reconstructor makes of the words, its gradient makes better words likelier."""

import json

import pytest
import torch
from tests.nla.pairs import fit
from tests.nla.test_train_pair import FEW, TEXTS, base
from tests.subjects import fresh

from neurodial.model.subject import Subject
from neurodial.nla.meta import read_meta
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import read_pair
from neurodial.nla.rebuilt import rebuilt_score
from neurodial.nla.reinforce import reward_loss
from neurodial.nla.train import train_pair
from neurodial.nla.train_options import Training
from neurodial.nla.verbaliser import LiveVerbaliser

STEPS = 12
OPTIONS = Training(layer=1, before=8, draws=8, batch_size=2)


def unsure(folder):
    """A verbaliser that says either word about either vector: it was fitted to both."""
    meta = read_meta(folder / "av", "verbaliser")
    subject = fresh("llama", seed=1, num_hidden_layers=3)
    fit(subject.model, subject.tokenizer, meta, torch.ones(2, 16), 150)  # one vector for both words
    return LiveVerbaliser(Subject.of(subject.model, subject.tokenizer, label="unsure"), meta.injection)


@pytest.mark.slow  # some seconds of sampling
@pytest.mark.timeout(300)
def test_the_reward_rises(planted):
    speaker, losses = unsure(planted.verbaliser.parent), []
    pair = read_pair(planted.verbaliser, planted.reconstructor)
    loss = reward_loss(speaker, pair.reconstructor(), planted.vectors, OPTIONS)
    optimizer = torch.optim.Adam(speaker.subject.model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss([0, 1])
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert sum(losses[6:]) / 6 < 0.85 * sum(losses[:2]) / 2, losses  # seen: 0.67 against 1.0


def test_the_loss_is_the_error_of_what_is_rebuilt_from_the_texts_drawn(planted):
    pair = read_pair(planted.verbaliser, planted.reconstructor)
    speaker, reconstructor = pair.verbaliser(), pair.reconstructor()
    loss = float(reward_loss(speaker, reconstructor, planted.vectors, OPTIONS)([0, 1]).detach())
    drawn = speaker.texts(planted.vectors, Verbalising(8, OPTIONS.answer_tokens, seed=2))  # 1 * row 0 + 2 * row 1
    errors = [
        rebuilt_score(vector, reconstructor.vectors([said.text])[0], 1.0).error if said.text else 4.0
        for vector, row in zip(planted.vectors, drawn, strict=True)
        for said in row
    ]
    assert loss == pytest.approx(sum(errors) / 16, abs=1e-5)  # float32, a mean of 16


def test_training_reinforces_where_it_is_asked_for(tmp_path):
    options = Training(**{**vars(FEW), "steps": 2, "reinforce": 2, "draws": 2})
    made = train_pair(base(), TEXTS, tmp_path / "pair", options=options)
    value = json.loads((made.verbaliser.parent / "report.json").read_text(encoding="utf-8"))
    assert value["stages"] == "supervised, then reinforced"
    assert len(value["losses"]["reinforcement"]) == 2
    assert all(0 <= loss <= 4 for loss in value["losses"]["reinforcement"])
