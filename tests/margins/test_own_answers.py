"""The margin in the model's own words, against log-likelihoods taken one answer at a time."""

import pytest
import torch
from tests.subjects import fresh, shared
from tests.tolerance import of_margins

import neurodial as nd
from neurodial.errors import MarginError
from neurodial.generation.generate import generate
from neurodial.margins.measure import measure_margins
from neurodial.margins.own_answers import ANSWER_TOKENS, find_own_answers
from neurodial.methods.dose.effects import Effects
from neurodial.methods.dose.options import Dose
from neurodial.prompts.pairs import Behaviour, Contrast
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import render


def rounding_of(subject):
    """Of the margins here, which are sums over answers of up to eight tokens."""
    return of_margins(subject, predictions=8)


def paired(count=6):
    """Requests asked loudly and quietly."""
    texts = [(f"say {n}!", f"say {n}?") for n in range(count)]
    return [Example(a, counterpart=b) for a, b in texts], [Example(b, counterpart=a) for a, b in texts]


def by_hand(subject, prompt, answer):
    [tokens] = render(subject.tokenizer, [prompt])
    with torch.no_grad():
        logits = subject.model(torch.tensor([[*tokens, *answer]])).logits[0].double().log_softmax(dim=-1)
    picked = [float(logits[len(tokens) - 1 + step, token]) for step, token in enumerate(answer)]
    return sum(picked) / len(picked)


@pytest.fixture(scope="module")
def said():
    """The model's answer to each prompt, by its text."""
    prompts = [example.prompt for side in paired() for example in side]
    answers = generate(shared(), prompts, decoding=nd.Decoding(max_new_tokens=ANSWER_TOKENS))
    return {answer.prompt: answer.tokens for answer in answers}


def test_it_is_how_much_likelier_the_answer_with_the_behaviour_is(said):
    subject = shared()
    positive, negative = paired()
    margin = find_own_answers(subject, [Contrast.of(positive, negative)])
    for side in (positive, negative):
        for number, value in enumerate(measure_margins(subject, margin, side)):
            shown, lacking = (
                by_hand(subject, side[number].prompt, said[one[number].prompt]) for one in (positive, negative)
            )
            assert value == pytest.approx(shown - lacking, abs=rounding_of(subject))


@pytest.mark.parametrize("direction", ["remove", "induce"])
def test_what_is_aimed_for_is_the_answer_without_it_or_to_induce_with_it(said, direction):
    subject = shared()
    positive, negative = paired()
    aim = find_own_answers(subject, [Contrast.of(positive, negative)]).reference(direction)
    wanted = negative if direction == "remove" else positive
    for side in (positive, negative):
        for number, value in enumerate(measure_margins(subject, aim, side)):
            expected = by_hand(subject, side[number].prompt, said[wanted[number].prompt])
            assert value == pytest.approx(expected, abs=rounding_of(subject))


def test_either_side_says_its_own_answer_best():
    subject = shared()
    positive, negative = paired()
    margin = find_own_answers(subject, [Contrast.of(positive, negative)])
    shown, lacking = (measure_margins(subject, margin, side) for side in (positive, negative))
    assert sum(lacking) < 0 < sum(shown)


def test_an_empty_answer_is_the_end_token():
    subject = fresh()
    head = subject.model.get_output_embeddings()
    with torch.no_grad():
        head.weight.zero_()
        subject.model.lm_head = torch.nn.Linear(head.in_features, head.out_features)
        subject.model.lm_head.weight.zero_()
        subject.model.lm_head.bias.zero_()
        subject.model.lm_head.bias[257] = 9.0
    margin = find_own_answers(subject, [Contrast.of(*paired(2))])
    assert set(margin.answers.values()) == {((257,), (257,))}


def test_a_model_without_end_tokens_has_no_empty_answers(monkeypatch):
    monkeypatch.setattr("neurodial.margins.own_answers.stop_tokens", lambda _subject: frozenset())
    answers = find_own_answers(shared(), [Contrast.of(*paired(2))]).answers
    assert all(answer for pair in answers.values() for answer in pair)


def test_more_prompts_can_be_added():
    subject = shared()
    first, second = paired(2), paired(4)
    margin = find_own_answers(subject, [Contrast.of(*first)])
    with pytest.raises(MarginError, match="'say 2!' has no answers of the model's own"):
        measure_margins(subject, margin, second[0])
    longer = margin.extended(subject, [Contrast.of(*(side[2:] for side in second))])
    assert margin.answers.items() <= longer.answers.items()
    assert len(measure_margins(subject, longer, second[0])) == 4


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        (Contrast.of(["a"], ["b"]), "'a' has no counterpart"),
        (Contrast.of([Example("a", counterpart="c")], ["b"]), "counterpart of the prompt 'a' is in another split"),
        (Contrast.of([Example("a", counterpart="b")], ["b"]), "'b' has no counterpart"),
    ],
)
def test_prompts_that_are_not_paired_are_refused_before_any_work(contrast, said, monkeypatch):
    monkeypatch.setattr("neurodial.margins.own_answers.generate", None)
    with pytest.raises(MarginError, match=said):
        find_own_answers(shared(), [contrast])


def test_lines_of_a_file_are_pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"split": "discovery", "positive": "a!", "negative": "a?"}\n'
        '{"split": "discovery", "text": "b!", "label": "positive"}\n'
    )
    found = nd.PairSet.read(str(path)).discovery
    assert [example.counterpart for example in (*found.positive, *found.negative)] == ["a?", None, "a!"]


def test_discovery_goes_towards_the_counterparts_answers(tmp_path, monkeypatch):
    """The margin falls on the development prompts, and the report names it."""
    subject = fresh()
    path = tmp_path / "plain.txt"
    path.write_text("\n".join(f"tell me {number}" for number in range(8)))
    positive, negative = paired(30)
    parts = (slice(0, 12), slice(12, 20), slice(20, 30))
    pairs = nd.PairSet(Behaviour("loud"), tuple(Contrast.of(positive[part], negative[part]) for part in parts))
    options = {"select": nd.Count(6), "neutral": str(path), "answer_tokens": 6, "folds": 0, "budget": 0.5}
    circuit = nd.discover(subject, pairs, method=Dose(margin="own-answers", **options))
    report = circuit.origin.report
    assert report.margin == "OwnAnswerMargin"
    assert report.measured.margin < report.measured.margin_before
    margin = find_own_answers(subject, [pairs.development])
    under = nd.Scale(circuit)
    for found, name in ((margin, "margin"), (margin.reference("remove"), "reference")):
        before, after = (
            measure_margins(subject, found, pairs.development.positive, under=each) for each in (None, under)
        )
        assert sum(before) / len(before) == pytest.approx(
            getattr(report.measured, f"{name}_before"), abs=rounding_of(subject)
        )
        assert sum(after) / len(after) == pytest.approx(getattr(report.measured, name), abs=rounding_of(subject))
    assert report.measured.reference >= report.measured.reference_before
    assert set(report.followed) == {"margin", "margin and reference", "reference"}
    assert report.follows == min(report.followed, key=lambda mixture: report.followed[mixture].margin)
    followed: list[str] = []
    along = Effects.along

    def spied(effects, mixture):
        followed.append(mixture)
        return along(effects, mixture)

    monkeypatch.setattr(Effects, "along", spied)
    folded = nd.discover(subject, pairs, method=Dose(margin="own-answers", **(options | {"folds": 3})))
    assert folded.stability is not None
    assert followed[-3:] == [folded.origin.report.follows] * 3  # without one fold each, along what was kept
    assert followed[-1] != "margin"
    monkeypatch.undo()
    # To induce it on the other side of the swapped pairs is the same thing.
    swapped = nd.PairSet(Behaviour("soft"), tuple(part.swapped() for part in pairs.splits if part is not None))
    both = nd.discover(subject, pairs, method=Dose(margin="own-answers", sign="both", **options))
    induced = nd.discover(
        subject, swapped, method=Dose(margin="own-answers", sign="both", direction="induce", **options)
    )
    doses = {row.neuron: row.dose for row in induced.rows}
    assert doses == pytest.approx({row.neuron: row.dose for row in both.rows}, rel=1e-4)
    there, here = (circuit.origin.report.measured for circuit in (induced, both))
    assert there.margin == pytest.approx(-here.margin, abs=1e-4)
    assert there.reference == pytest.approx(here.reference, abs=1e-4)
    assert there.margin > there.margin_before
