"""Behaviour margins: what they are worth, how openers are found, and that batching changes nothing."""

import math

import pytest
import torch
from tests.tolerance import of_activations, of_margins

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import MarginError
from neurodial.generation.generate import Answer
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.margins.beginnings import OpenerSearch, alternatives_of, openers_of
from neurodial.margins.margin import Alternatives, AnswerMargin, ClassifierLogit, Openers
from neurodial.margins.measure import measure_margins
from neurodial.margins.openers import find_openers, likely_apart
from neurodial.model.hooks import on_forward
from neurodial.model.subject import Subject
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject, tiny_tokenizer
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import render

EXAMPLES = [Example(text, positive_answer="oui, bien sûr", negative_answer="no") for text in ("a", "bcd", "what is it")]
OPENERS = Openers.of([(73, 39, 109), (73, 32), (78,)])


def sequence_log_prob(subject, prompt, continuation):
    """Oracle: the whole sequence through the model's own forward, one at a time, in float64."""
    tokens = torch.tensor([[*prompt, *continuation]])
    with torch.no_grad():
        table = subject.model(input_ids=tokens, use_cache=False).logits[0].double().log_softmax(-1)
    places = range(len(prompt) - 1, tokens.shape[1] - 1)
    return sum(float(table[place, token]) for place, token in zip(places, continuation, strict=True))


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_opener_margin_is_the_log_odds_of_the_openers(family):
    subject = tiny_subject(family)
    prompts = render(subject.tokenizer, [example.prompt for example in EXAMPLES])
    expected = []
    for prompt in prompts:
        p = sum(math.exp(sequence_log_prob(subject, prompt, opener)) for opener in OPENERS.tokens)
        expected.append(math.log(p) - math.log1p(-p))
    # Padding to a batch reorders float32 sums; openers of several tokens are several predictions.
    bound = of_margins(subject, predictions=max(map(len, OPENERS.tokens)))
    assert measure_margins(subject, OPENERS, EXAMPLES) == pytest.approx(expected, abs=bound)


def test_shared_beginnings_are_run_once():
    subject = tiny_subject()
    rows = Openers.of([(1, 2, 3), (1, 2, 4), (1, 5), (6,)]).rows(subject, (9, 9), EXAMPLES[0])
    assert rows == ((9, 9, 1, 2),)


def test_a_prompt_is_run_once_for_all_its_rows(monkeypatch):
    """Where a margin reads answers alone; one that may read the prompt gets every row whole, with the same value."""
    subject = tiny_subject()
    monkeypatch.setattr("neurodial.generation.states.is_steered_elsewhere", lambda *_: False)  # the hook that looks
    examples = [Example(f"What is to be said of {animal}, in general?") for animal in ("a cat", "bears", "old dogs")]
    passes = []
    hook = on_forward(subject, lambda rows, tokens, _: passes.append(rows * tokens))
    openers = Openers.of([(73, 39, 109), (78, 32), (80,)])
    assert len(openers.rows(subject, (1,), examples[0])) == 2
    try:
        found = measure_margins(subject, openers, examples)
        from_prompts = sum(passes)
        passes.clear()
        monkeypatch.setattr(Openers, "reads_answers_alone", False)
        whole = measure_margins(subject, openers, examples)
    finally:
        hook.remove()
    assert found == pytest.approx(whole, abs=of_margins(subject, predictions=3))
    assert from_prompts < 0.7 * sum(passes)


def test_openers_must_be_prefix_free():
    with pytest.raises(MarginError, match="prefix-free"):
        Openers.of([(1, 2), (1,)])
    with pytest.raises(MarginError, match="at least one token"):
        Openers.of([])
    assert Openers.of([(1, 2), (1, 3)]).matches([1, 3, 5])
    assert not Openers.of([(1, 2), (1, 3)]).matches([1])


@pytest.mark.parametrize("per_token", [False, True])
def test_answer_margin_is_the_difference_of_log_likelihoods(per_token):
    subject = tiny_subject("gpt2")
    answers = [tuple(subject.tokenizer(text)["input_ids"])[1:] for text in ("oui, bien sûr", "no")]
    expected = []
    for prompt in render(subject.tokenizer, [example.prompt for example in EXAMPLES]):
        parts = [sequence_log_prob(subject, prompt, a) / (len(a) if per_token else 1) for a in answers]
        expected.append(parts[0] - parts[1])
    bound = of_margins(subject, predictions=max(map(len, answers)))
    assert measure_margins(subject, AnswerMargin(per_token=per_token), EXAMPLES) == pytest.approx(expected, abs=bound)


def test_a_prompt_without_answers_has_no_answer_margin():
    with pytest.raises(MarginError, match="positive_answer and negative_answer"):
        measure_margins(tiny_subject(), AnswerMargin(), [Example("hello")])


def test_a_classifier_reads_hidden_states():
    subject = tiny_subject()
    [value] = measure_margins(subject, ClassifierLogit(lambda hidden: hidden[-1] @ torch.ones(16)), EXAMPLES[:1])
    tokens = torch.tensor(render(subject.tokenizer, ["a"]))
    with torch.no_grad():
        expected = float(subject.decoder(input_ids=tokens).last_hidden_state[0, -1].sum())
    assert value == pytest.approx(expected, abs=of_activations(subject, 16.0))  # a sum of 16 numbers of size 1
    with pytest.raises(MarginError, match="Wanted: one"):
        measure_margins(subject, ClassifierLogit(lambda hidden: hidden), EXAMPLES[:1])


def test_a_certain_opener_has_a_finite_margin_with_a_slope():
    subject = Subject.of(tiny_subject().model.double(), tiny_tokenizer())
    hidden = torch.ones(3, 16, dtype=torch.float64, requires_grad=True)
    certain = Openers.of([(token,) for token in range(260)])
    nearly = Openers.of([(token,) for token in range(259)])
    assert certain.value(subject, [(1, 2, 3)], [hidden], 3).item() > 30
    nearly.value(subject, [(1, 2, 3)], [hidden], 3).backward()
    assert hidden.grad is not None
    assert 0 < hidden.grad.abs().max() < math.inf


@pytest.mark.parametrize("family", ["llama", "opt", "gemma2"])
def test_batching_and_intervention_per_row_change_nothing(family):
    subject = tiny_subject(family)
    circuit = Circuit.of([Row(Neuron(layer, None, 3), 1.0, 1.0) for layer in range(2)])
    under = [None, Scale(circuit, 1.0), Scale(circuit, -2.0)]
    together = measure_margins(subject, OPENERS, EXAMPLES, under=under)
    small = measure_margins(subject, OPENERS, EXAMPLES, under=under, budget=1)
    apart = []
    for example, intervention in zip(EXAMPLES, under, strict=True):
        if intervention is None:
            apart += measure_margins(subject, OPENERS, [example])
        else:
            with steer(subject, intervention):
                apart += measure_margins(subject, OPENERS, [example])
    bound = of_margins(subject, predictions=max(map(len, OPENERS.tokens)))
    assert together == pytest.approx(apart, abs=bound)
    assert small == pytest.approx(apart, abs=bound)
    assert abs(together[1] - measure_margins(subject, OPENERS, EXAMPLES)[1]) > 1e-3


def test_prompt_only_steering_stops_at_the_prompt():
    subject = tiny_subject()
    circuit = Circuit.of([Row(Neuron(1, None, 3), 1.0, 1.0)])
    long = Openers.of([(73, 39, 109, 40, 50)])
    scales = [Scale(circuit, 3.0, when=when) for when in ("prompt", "generated", "all")]
    found = measure_margins(subject, long, [EXAMPLES[0]] * 3, under=scales)
    assert len({round(value, 6) for value in found}) == 3


# ------------------------------------------------------------------------------------------------ finding openers


def answers(subject, texts):
    return [Answer("p", text, tuple(subject.tokenizer(text)["input_ids"][1:]), is_finished=False) for text in texts]


def test_openers_are_the_shortest_beginnings_that_tell_the_sides_apart():
    subject = tiny_subject()
    positive = answers(subject, ["I can't"] * 4 + ["I won't"] * 3 + ["Sorry"] * 2 + ["Well"])
    negative = answers(subject, ["I see"] * 5 + ["Here"] * 5)
    found = openers_of(subject, positive, negative)
    assert set(found.texts) == {"I c", "I w", "S"}
    assert (found.positive, found.negative) == (0.9, 0.0)
    assert openers_of(subject, positive, negative, search=OpenerSearch(count=1)).texts == ("I c",)
    assert openers_of(subject, positive, negative, search=OpenerSearch(share=0.35)).texts == ("I c",)


def test_rarity_decides_how_far_down_an_opener_is_followed():
    subject = tiny_subject()
    positive, negative = answers(subject, ["ab"] * 5 + ["ac"] * 5), answers(subject, ["ac"] * 3 + ["x"] * 7)
    assert openers_of(subject, positive, negative, search=OpenerSearch(rarity=0.4)).texts == ("a",)
    assert openers_of(subject, positive, negative, search=OpenerSearch(rarity=0.2)).texts == ("ab",)


def test_an_opener_is_no_longer_than_it_must_be():
    """A behaviour that the other side shows too, less often, still has openers; what both sides share is left out."""
    subject = tiny_subject()
    positive = answers(subject, ["No, x"] * 4 + ["No, y"] * 4 + ["Now"] * 2)
    negative = answers(subject, ["No, z"] * 3 + ["Now"] * 5 + ["Yes"] * 2)
    found = openers_of(subject, positive, negative, search=OpenerSearch(length=4, price=0.2))
    assert found.texts == ("No,",)
    assert (found.positive, found.negative) == (0.8, 0.3)
    assert openers_of(subject, positive, negative, search=OpenerSearch(length=5, price=0.0)).negative == 0.0


def test_no_opener_separates_the_sides():
    subject = tiny_subject()
    same = answers(subject, ["Yes it is so"] * 5)
    with pytest.raises(MarginError, match=r"'Yes it is' \(5 of 5\).*margin answer"):
        openers_of(subject, same, same)
    few = answers(subject, ["No"] * 2 + ["Yes it is so"] * 38)
    with pytest.raises(MarginError, match="best openers begin 5%"):
        openers_of(subject, few, same)


def test_alternatives_are_the_other_sides_openings():
    subject = tiny_subject()
    refusing = answers(subject, ["I can't", "I can't", "I won't", "To do", "To go"])
    helping = answers(subject, ["To do", "To go", "The way", "The sea", "I see", "A map"])
    found = alternatives_of(subject, refusing, helping)
    openings = {subject.tokenizer.decode(list(opening)) for opening in found.openings.tokens}
    assert openings == {"Th"}, "To begins an answer on the other side too, and A one answer only"
    assert found.openings.positive == pytest.approx(2 / 6)
    assert found.behaviour is not None
    assert all(text.startswith("I") for text in found.behaviour.texts)
    with pytest.raises(MarginError, match=r"in ways of their own.*openings of at least 20%"):
        alternatives_of(subject, refusing, refusing)


def test_openings_that_are_likely_on_the_other_side_too_are_left_out():
    """By the model's probabilities, whatever a few answers happened to begin with."""
    subject = tiny_subject(seed=2)
    contrast = Contrast.of(["harm one", "harm two", "harm"], ["a help!", "help it", "help me now"])
    openings = Openers(((70,), (71, 72), (71, 73), (80,), (90, 20)), ("a", "b", "c", "d", "e"))
    means = [
        [sum(math.exp(sequence_log_prob(subject, prompt, opening)) for prompt in prompts) / 3 for prompts in sides]
        for opening in openings.tokens
        for sides in [[render(subject.tokenizer, [e.prompt for e in side]) for side in sides_of(contrast)]]
    ]
    rarity = sorted(shown / lacking for shown, lacking in means)[2]  # the third best opening is the last to be kept
    search = OpenerSearch(rarity=rarity * 1.0001, coverage=0.0)
    found = likely_apart(subject, Alternatives(openings), contrast, search).openings
    kept = [n for n, (shown, lacking) in enumerate(means) if shown <= search.rarity * lacking]
    assert len(kept) == 3
    assert found.tokens == tuple(openings.tokens[n] for n in kept)
    assert found.texts == tuple(openings.texts[n] for n in kept)
    assert found.positive == pytest.approx(sum(means[n][1] for n in kept))
    assert found.negative == pytest.approx(sum(means[n][0] for n in kept))
    with pytest.raises(MarginError, match="not likely on the positive ones too"):
        likely_apart(subject, Alternatives(openings), contrast, OpenerSearch(rarity=0.0, coverage=0.1))


def sides_of(contrast):
    return contrast.positive, contrast.negative


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_margin_of_alternatives_is_the_odds_against_the_openings(family):
    subject = tiny_subject(family)
    openings = Openers.of([(70,), (71, 72)])
    plain = measure_margins(subject, openings, EXAMPLES)
    found = measure_margins(subject, Alternatives(openings, Openers.of([(73,)])), EXAMPLES)
    assert found == pytest.approx([-value for value in plain])


def test_openers_are_found_in_the_models_own_answers():
    subject = tiny_subject(seed=1)
    contrast = Contrast.of([f"harm {n}" for n in range(4)], [f"a help {n}!" for n in range(4)])
    try:
        found = find_openers(subject, contrast, search=OpenerSearch(share=0.0, coverage=0.0, rarity=0.9))
    except MarginError:
        pytest.skip("this random model answers both sides alike")
    assert (found.positive or 0) > (found.negative or 0)
