"""The margin in the model's own words, against log-likelihoods taken one answer at a time."""

import pytest
import torch
from tests.subjects import fresh, shared

import neurodial as nd
from neurodial.attribution.methods import Dose
from neurodial.errors import MarginError
from neurodial.measurement.generate import generate
from neurodial.measurement.measure_margins import measure_margins
from neurodial.measurement.twins import ANSWER_TOKENS, find_twins
from neurodial.prompts.pairs import Behaviour, Contrast
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import render


def paired(count=6):
    """Requests asked loudly and quietly."""
    texts = [(f"say {n}!", f"say {n}?") for n in range(count)]
    return [Example(a, twin=b) for a, b in texts], [Example(b, twin=a) for a, b in texts]


def by_hand(subject, prompt, answer):
    [tokens] = render(subject.tokenizer, [prompt])
    with torch.no_grad():
        logits = subject.model(torch.tensor([[*tokens, *answer]])).logits[0].double().log_softmax(dim=-1)
    picked = [float(logits[len(tokens) - 1 + step, token]) for step, token in enumerate(answer)]
    return sum(picked) / len(picked)


@pytest.mark.parametrize("direction", ["remove", "induce"])
def test_it_is_the_mean_log_likelihood_of_the_twins_answer(direction):
    subject = shared()
    positive, negative = paired()
    margin = find_twins(subject, [Contrast.of(positive, negative)], direction)
    wanted = negative if direction == "remove" else positive
    answers = generate(subject, [e.prompt for e in wanted], decoding=nd.Decoding(max_new_tokens=ANSWER_TOKENS))
    sign = -1 if direction == "remove" else 1
    for side in (positive, negative):
        found = measure_margins(subject, margin, side)
        for example, answer, value in zip(side, answers, found, strict=True):
            assert value == pytest.approx(sign * by_hand(subject, example.prompt, answer.tokens), abs=1e-5)


def test_the_side_that_lacks_the_behaviour_says_its_own_answer_best():
    subject = shared()
    positive, negative = paired()
    margin = find_twins(subject, [Contrast.of(positive, negative)])
    shown, lacking = (measure_margins(subject, margin, side) for side in (positive, negative))
    assert sum(lacking) < sum(shown)


def test_an_empty_answer_is_the_end_token():
    subject = fresh()
    head = subject.model.get_output_embeddings()
    with torch.no_grad():
        head.weight.zero_()
        subject.model.lm_head = torch.nn.Linear(head.in_features, head.out_features)
        subject.model.lm_head.weight.zero_()
        subject.model.lm_head.bias.zero_()
        subject.model.lm_head.bias[257] = 9.0
    margin = find_twins(subject, [Contrast.of(*paired(2))])
    assert set(margin.answers.values()) == {(257,)}


def test_a_model_without_end_tokens_has_no_empty_answers(monkeypatch):
    monkeypatch.setattr("neurodial.measurement.twins.stop_tokens", lambda _subject: frozenset())
    assert all(find_twins(shared(), [Contrast.of(*paired(2))]).answers.values())


def test_more_prompts_can_be_added():
    subject = shared()
    first, second = paired(2), paired(4)
    margin = find_twins(subject, [Contrast.of(*first)])
    with pytest.raises(MarginError, match="'say 2!' has no answer of the model's own"):
        measure_margins(subject, margin, second[0])
    longer = margin.extended(subject, [Contrast.of(*(side[2:] for side in second))])
    assert margin.answers.items() <= longer.answers.items()
    assert len(measure_margins(subject, longer, second[0])) == 4


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        (Contrast.of(["a"], ["b"]), "'a' has no twin"),
        (Contrast.of([Example("a", twin="c")], ["b"]), "twin of the prompt 'a' stands in another split"),
    ],
)
def test_prompts_that_are_not_paired_are_refused_before_any_work(contrast, said, monkeypatch):
    monkeypatch.setattr("neurodial.measurement.twins.generate", None)
    with pytest.raises(MarginError, match=said):
        find_twins(shared(), [contrast])


def test_lines_of_a_file_are_pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"split": "discovery", "positive": "a!", "negative": "a?"}\n'
        '{"split": "discovery", "text": "b!", "label": "positive"}\n'
    )
    found = nd.PairSet.read(str(path)).discovery
    assert [example.twin for example in (*found.positive, *found.negative)] == ["a?", None, "a!"]


def test_discovery_goes_towards_the_twins_answers(tmp_path):
    """The margin falls on the development prompts, and the report names it."""
    subject = fresh()
    path = tmp_path / "plain.txt"
    path.write_text("\n".join(f"tell me {number}" for number in range(8)))
    positive, negative = paired(30)
    parts = (slice(0, 12), slice(12, 20), slice(20, 30))
    pairs = nd.PairSet(Behaviour("loud"), tuple(Contrast.of(positive[part], negative[part]) for part in parts))
    options = {"select": nd.Count(6), "neutral": str(path), "answer_tokens": 6, "folds": 0, "budget": 0.5}
    circuit = nd.discover(subject, pairs, method=Dose(margin="twin", **options))
    report = circuit.origin.report
    assert report["margin"] == "TwinMargin"
    assert report["measured"]["margin"] < report["measured"]["margin_before"]
    margin = find_twins(subject, [pairs.development])
    again = measure_margins(subject, margin, pairs.development.positive, under=nd.Scale(circuit))
    assert sum(again) / len(again) == pytest.approx(report["measured"]["margin"], abs=1e-5)
    induced = nd.discover(subject, pairs, method=Dose(margin="twin", direction="induce", **options))
    assert induced.origin.report["measured"]["margin"] > induced.origin.report["measured"]["margin_before"]
