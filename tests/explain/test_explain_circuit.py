"""What an explanation says, against the model itself: what is read, what dials do, what groups carry."""

import json
from dataclasses import replace

import pytest
import torch
from tests.explain.digits import DIGITS, RANDOM, circuit, digit_subject, texts
from tests.subjects import SOME_FAMILIES, circuit_of, fresh, shared

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.cli.main import main
from neurodial.errors import CircuitError, ModelMismatchError, OptionError, PromptError
from neurodial.evaluation.report.html_page import render_page
from neurodial.explain.corpus import corpus_of
from neurodial.explain.dial_effects import Measuring
from neurodial.explain.explain_circuit import HIDDEN, explain_circuit
from neurodial.explain.explain_page import explanation_page
from neurodial.explain.options import Explaining
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.scale import Scale
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.measure import measure_margins
from neurodial.model.parts import norm_before_mlp
from neurodial.prompts.pairs import PairSet
from neurodial.tracing.lens import read_tokens

NEUTRAL = ["What is a pear?", "Name a river.", "Why?"]
FEW = Explaining(neurons=3, places=2, prompts=3, passages=2, answer_tokens=5, likeness=0.2)


def measuring(subject):
    pairs = PairSet.read("formality")
    return Measuring(pairs, choose_margin(subject, pairs), NEUTRAL)


def explained(subject, found, **fields):
    corpus = corpus_of(subject, None, [f"text {number} of some" for number in range(20)], name="some")
    return explain_circuit(subject, found, corpus, **fields)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_reading_is_the_row_through_the_norms_gain_and_the_embedding(family):
    subject = fresh(family)
    neuron = Neuron(1, None, 7)
    block = subject.layout.blocks[1]
    before = norm_before_mlp(block)
    norm = subject.blocks[1].get_submodule(before.path)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, norm.weight.numel()))
    up = subject.blocks[1].get_submodule(block.site.up.path).weight.detach()
    up = up.T if block.site.transposed else up
    row = up[7 + (24 if block.site.fused else 0)]
    gain = norm.weight.detach() + (1 if before.kind == "rms_plus_one" else 0)
    wanted = subject.model.get_input_embeddings().weight.detach() @ (row * gain)
    found = read_tokens(subject, neuron, 4)
    assert [token.token for token in found["up"]] == wanted.argsort(descending=True)[:4].tolist()
    assert ("gate" in found) == block.site.is_gated
    if block.site.is_gated:
        assert [token.token for token in found["gate"]] != [token.token for token in found["up"]]


def test_a_digit_neuron_reads_digits():
    subject = digit_subject()
    found = read_tokens(subject, DIGITS, 10)
    assert all(token.text.isdigit() for token in (*found["gate"], *found["up"]))


def test_every_effect_is_what_the_dial_alone_does():
    subject = shared()
    found = circuit_of(subject, 6)
    asked = measuring(subject)
    effects = explained(subject, found, measuring=asked, options=FEW).effects
    examples = asked.pairs.development.about("remove")[:3]
    passages = own_answers(subject, NEUTRAL[:2], decoding=Decoding(max_new_tokens=5))

    def alone(rows):
        part = Scale(Circuit.of(rows, origin=found.origin), 1.0)
        before, after = (measure_margins(subject, asked.margin.pushed, examples, under=u) for u in (None, part))
        return sum(after) / 3 - sum(before) / 3, measure_divergence(subject, passages, [part])[0].mean

    assert len(effects.neurons) == 3
    assert effects.prompts == 3
    assert (effects.circuit.margin, effects.circuit.damage) == pytest.approx(alone(found.rows), abs=1e-3)
    for channel, effect in effects.neurons.items():
        assert (effect.margin, effect.damage) == pytest.approx(alone([found.rows[channel]]), abs=1e-3)
    assert effects.groups
    for group in effects.groups:
        rows = [found.rows[channel] for channel in group.channels]
        rest = [row for row in found.rows if row not in rows]
        assert group.alone.margin == pytest.approx(alone(rows)[0], abs=1e-3)
        assert group.without.margin == pytest.approx(alone(rest)[0], abs=1e-3)
        assert group.share == pytest.approx(1 - group.without.margin / effects.circuit.margin)


def test_the_circuit_is_followed_along_its_own_answers():
    subject = shared()
    courses = explained(subject, circuit_of(subject, 4), measuring=measuring(subject), options=FEW).course
    assert [course.side for course in courses] == ["positive", "negative"]
    for course in courses:
        assert course.answers == course.counts[0] == 3
        assert 1 < len(course.drive) <= 6
        assert list(course.counts) == sorted(course.counts, reverse=True)


def test_sides_are_told_apart_and_without_sides_nothing_is_claimed():
    subject = digit_subject()
    corpus = texts(subject)
    last = {side: subject.encode(word, special=False) for side, word in (("positive", "7"), ("negative", "e"))}
    ends = [replace(text, tokens=(*text.tokens, *last[text.side])) for text in corpus.texts]
    found = explain_circuit(subject, circuit(), replace(corpus, texts=tuple(ends)))
    by_place = {(neuron.layer, neuron.index): neuron for neuron in found.neurons}
    assert by_place[0, DIGITS.index].firing.auroc == pytest.approx(1.0, abs=1e-9)
    assert found.effects is None
    assert any("no dial was turned" in note for note in found.notes)
    alone = explained(subject, circuit())
    assert alone.neurons[0].firing.auroc is None
    assert "RANDOM" not in render_page(explanation_page(alone))
    assert (0, RANDOM.index) in {(neuron.layer, neuron.index) for neuron in alone.neurons}


def test_words_of_harmful_prompts_stand_nowhere_unless_asked_for():
    subject = shared()
    pairs = PairSet.read("refusal")
    corpus = corpus_of(subject, pairs)
    found = circuit_of(subject, 3)
    closed, opened = (explain_circuit(subject, found, corpus, options=FEW, show_harmful=show) for show in (False, True))

    def harmful_tokens(explanation):
        firings = [explanation.firing, *(neuron.firing for neuron in explanation.neurons)]
        snippets = [s for f in firings for s in (*f.strongest, *f.middle, *f.weakest)]
        return [token for s in snippets if s.side == "positive" for token in s.tokens]

    assert HIDDEN in harmful_tokens(closed)
    assert HIDDEN not in harmful_tokens(opened)
    template = {subject.tokenizer.decode([t]) for t in subject.render([""])[0]}
    assert set(harmful_tokens(closed)) <= {HIDDEN, *template}
    assert any("harmful prompts are left out" in note for note in closed.notes)
    assert HIDDEN in render_page(explanation_page(closed))


def test_the_page_shows_every_part_and_loads_nothing():
    subject = shared()
    found = circuit_of(subject, 6)
    explanation = explained(subject, found, measuring=measuring(subject), options=FEW)
    html = render_page(explanation_page(explanation))
    assert "http" not in html.replace("http-equiv", "")
    for words in ("When in an answer it acts", "Groups of like neurons", "strongest", "weakest", "holds down", "share"):
        assert words in html, words
    for neuron in explanation.neurons:
        assert f"Layer {neuron.layer}, neuron {neuron.index}" in html
    assert html.count('class="coloured"') == 4 * 3 * 2
    value = json.loads(json.dumps(explanation.as_json(), allow_nan=False))
    assert [n["index"] for n in value["neurons"]] == [n.index for n in explanation.neurons]


def test_what_makes_no_sense_is_refused():
    subject = shared()
    with pytest.raises(CircuitError, match="no neurons"):
        explained(subject, Circuit.of([]))
    other = Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)], origin=circuit_of(fresh(seed=5), 2).origin)
    with pytest.raises(ModelMismatchError):
        explained(subject, other)
    assert explained(subject, other, force=True).size == 1
    with pytest.raises(OptionError, match="places"):
        Explaining(places=0)
    with pytest.raises(OptionError, match="likeness"):
        Explaining(likeness=0.0)
    with pytest.raises(PromptError, match="no texts"):
        corpus_of(subject, None)


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main(["explain", *map(str, arguments)])
    return done.value.code or 0


def test_the_command_writes_page_and_json(tmp_path, capsys):
    subject = fresh()
    subject.model.save_pretrained(tmp_path / "model")
    subject.tokenizer.save_pretrained(tmp_path / "model")
    file = circuit_of(subject, 5, known=False).write(tmp_path / "x.circuit.json")
    (tmp_path / "mine.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "empty.txt").write_text("\n")
    model, out = tmp_path / "model", tmp_path / "out"
    few = ("--neurons", 2, "--prompts", 2, "--passages", 2, "--answer-tokens", 3)
    assert run(model, file, "-b", "formality", *few, "-o", out) == 0
    assert (out / "explanation.html").is_file()
    value = json.loads((out / "explanation.json").read_text())
    assert (len(value["neurons"]), value["effects"]["prompts"]) == (2, 2)
    shown = " ".join(capsys.readouterr().out.split())
    assert "At dial 1 the margin moves" in shown
    assert run(model, file, "-b", "formality", *few, "-o", out) == 1
    assert "exists" in capsys.readouterr().err
    assert run(model, file, "-b", "none", "--texts", tmp_path / "mine.txt", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["texts"] == {"positive": 0, "negative": 0, "other": 3}
    assert run(model, file, "-b", "none") == 1
    assert "no texts" in capsys.readouterr().err
    assert run(model, file, "-b", "none", "--texts", tmp_path / "empty.txt") == 1
    assert run(model, file, "-b", "none", "--texts", tmp_path / "mine.txt", "--endpoint", "http://127.0.0.1:1/v1") == 1
    assert "--endpoint-model" in capsys.readouterr().err
