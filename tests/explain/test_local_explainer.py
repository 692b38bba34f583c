"""A model on this machine puts neurons into words: its lists have the form asked for, and are scored as any other's."""

import json
import random

import pytest
import torch
from tests.explain.digits import circuit, digit_subject, texts
from tests.subjects import fresh

from neurodial.cli.main import main
from neurodial.explain.explain_circuit import explain_circuit
from neurodial.explain.explainer import ExplainerQuestion, ListForm, LocalExplainer
from neurodial.explain.options import Explaining
from neurodial.explain.put_into_words import Wording
from neurodial.model.head import hidden_states, logits

LONG = 4096  # tokens of context; the questions are some hundred bytes, and a tiny tokenizer's tokens are bytes
LEVELS = tuple(map(str, range(11)))


@pytest.mark.parametrize("values", [("true", "false"), LEVELS])
def test_whatever_is_chosen_of_what_may_come_next_is_such_a_list(values):
    subject, generator = fresh("llama"), random.Random(0)
    form = ListForm.of(subject, ExplainerQuestion("", values, 4))
    seen = set()
    for _ in range(40):
        tokens: list[int] = []
        while following := form.next(tokens):
            tokens.append(generator.choice(following))
        assert len(tokens) < form.longest
        found = json.loads(subject.tokenizer.decode(tokens))
        assert len(found) == 4
        seen |= {json.dumps(value) for value in found}
    assert seen == set(values)


@torch.no_grad()
def test_each_value_is_the_likeliest_that_is_allowed():
    subject = fresh("llama", seed=2)
    asked = [
        ExplainerQuestion("What of pears?", LEVELS, 3),
        ExplainerQuestion("And rivers, since they are longer?", ("true", "false"), 2),
    ]
    found = LocalExplainer(subject).answers(asked, json.loads)
    for question, values in zip(asked, found, strict=True):
        form = ListForm.of(subject, question)
        [prompt] = subject.render([question.text])
        tokens: list[int] = []
        while following := form.next(tokens):
            scores = logits(subject, hidden_states(subject, torch.tensor([[*prompt, *tokens]]))[0, -1])
            tokens.append(max(following, key=lambda token: float(scores[token])))
        assert values == json.loads(subject.tokenizer.decode(tokens))


def test_what_was_not_understood_and_what_is_too_long_is_said():
    subject = fresh("llama", max_position_embeddings=128)
    short, long = LocalExplainer(subject).answers(
        [ExplainerQuestion("Why?"), ExplainerQuestion("Why? " * 100)], lambda text: None
    )
    assert short.startswith("answer not understood")
    assert "too long for the model" in long


def test_a_random_models_words_are_scored_near_chance():
    subject = digit_subject()
    wording = Wording(LocalExplainer(fresh("llama", seed=4, max_position_embeddings=LONG)), places=8, held_out=12)
    found = explain_circuit(subject, circuit(), texts(subject, 200), options=Explaining(places=12), wording=wording)
    for neuron in found.neurons:
        assert neuron.words.detection_n == 24
        assert 0.2 < neuron.words.detection < 0.8
        assert not neuron.words.problems


def test_the_command_takes_a_local_model(tmp_path, capsys):
    folder, speaker, file = str(tmp_path / "model"), str(tmp_path / "speaker"), tmp_path / "digits.circuit.json"
    speaking = fresh("llama", seed=4, max_position_embeddings=LONG)
    for subject, place in ((digit_subject(), folder), (speaking, speaker)):
        subject.model.save_pretrained(place)
        subject.tokenizer.save_pretrained(place)
    circuit().write(file)
    (tmp_path / "texts.txt").write_text("\n".join(f"number {n} or pears" for n in range(40)), encoding="utf-8")
    words = ["explain", folder, str(file), "-b", "none", "--texts", str(tmp_path / "texts.txt"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--explainer", speaker, "--places", "2"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["neurons"][0]["words"]["model"] == speaker
    assert found["neurons"][0]["words"]["detection_n"] > 0
    for more in (["--explainer", "demo-bse"], ["--explainer", folder, "--endpoint", "http://x/v1"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        assert ended.value.code == 1
    assert "Did you mean demo-base" in capsys.readouterr().err
