"""Spans: what is said somewhere in the answers of one side, and the margin that is read where they begin."""

import json

import pytest
import torch
from tests.subjects import logits, shared
from tests.tolerance import of_margins

from neurodial.errors import MarginError, OptionError
from neurodial.generation.generate import Answer
from neurodial.margins.behaviour_margin import BehaviourMargin, recorded_margin
from neurodial.margins.find_spans import Spans, SpanSearch, spans_of
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.margins.span_margin import OTHERS, SpanMargin, held_places
from neurodial.prompts.pairs import Behaviour, Contrast
from neurodial.prompts.prompt import Example

TAIL = (70, 71, 72)
SPANS = Spans((TAIL,), ("tail",), 1.0, 0.0)


def with_tail(count):
    """Answers that differ but for their last tokens, which any of two marks goes before."""
    return [(80 + n, 90 + n, 33 + n % 2, *TAIL) for n in range(count)]


def without_tail(count):
    return [(80 + n, 90 + n, 33 + n % 2) for n in range(count)]


def test_a_tail_is_found_wherever_it_stands_and_no_longer_than_needed():
    subject = shared()
    found = spans_of(subject, with_tail(6), without_tail(6))
    assert (found.positive, found.negative) == (1.0, 0.0)
    assert found.tokens == ((70,),), "the shortest that tells as much, and of these the one that begins earliest"
    assert found.texts == (subject.tokenizer.decode([70]),)
    assert found.matches((1, 2, 70))
    assert not found.matches((1, 2))


def test_a_common_word_is_no_span_where_more_words_tell_more():
    """Where neutral answers hold its first token, two tokens tell; where negative ones do, it begins after that."""
    often = [(70, 60 + n) for n in range(6)]
    found = spans_of(shared(), with_tail(6), without_tail(6), often)
    assert found.tokens == ((70, 71),)
    assert spans_of(shared(), with_tail(6), often).tokens == ((71,),)


def test_a_sign_off_begins_at_its_first_word_though_its_last_mark_tells_a_little_more():
    positive = [*with_tail(19), (80, 81, 72)]
    found = spans_of(shared(), positive, without_tail(6))
    assert found.tokens[0] == (70,)
    assert spans_of(shared(), [*with_tail(8), *[(80 + n, 81, 72) for n in range(12)]], without_tail(6)).tokens[0] == (
        72,
    )


def test_several_spans_cover_answers_that_none_covers_alone():
    positive = [(1, 2, 3), (4, 2, 3), (5, 6, 7), (8, 6, 7), (9, 9, 9)]
    found = spans_of(shared(), positive, [(1,), (4,), (5,), (8,), (9,)])
    assert set(found.tokens) == {(2,), (6,)}
    assert found.positive == pytest.approx(0.8)
    assert len(spans_of(shared(), positive, [(1,)], search=SpanSearch(count=1)).tokens) == 1


def test_no_span_tells_the_sides_apart():
    with pytest.raises(MarginError, match=r"Nothing said in an answer tells .* in 0% of"):
        spans_of(shared(), with_tail(6), with_tail(6))
    with pytest.raises(MarginError, match="in 33% of"):
        spans_of(shared(), with_tail(2) + without_tail(4), without_tail(6), search=SpanSearch(coverage=0.5))
    with pytest.raises(OptionError, match="at least 1 of each"):
        SpanSearch(length=0)
    with pytest.raises(OptionError, match="rarity below 1"):
        SpanSearch(rarity=1.0)


def test_places_are_where_spans_begin():
    assert held_places(SPANS, (1, *TAIL, 2, *TAIL)) == [(1, TAIL), (5, TAIL)]
    assert len(held_places(SPANS, TAIL * 9)) == 4
    assert held_places(SPANS, (70, 71)) == []


@pytest.fixture(scope="module")
def contrast():
    return Contrast((Example("a b", counterpart="c d"),), (Example("c d", counterpart="a b"),))


@pytest.fixture(scope="module")
def margin(contrast):
    """One answer holds the tail, in its middle and at its end; the other one does not."""
    answers = [
        Answer("a b", "", (80, *TAIL, 81, *TAIL), is_finished=True),
        Answer("c d", "", (80, 81, 82), is_finished=True),
    ]
    return SpanMargin(SPANS, {}).reading(shared(), [contrast], answers)


def by_hand(subject, prompt, before, span, others):
    [tokens] = subject.render([prompt])
    start = len(tokens) - 1 + len(before)
    table = logits(subject, (*tokens, *before, *span)).double().log_softmax(dim=-1)
    spoken = sum(float(table[start + step, token]) for step, token in enumerate(span))
    return spoken - float(table[start, list(others)].logsumexp(dim=0))


def likeliest_others(subject, prompt, before):
    [tokens] = subject.render([prompt])
    table = logits(subject, (*tokens, *before))[-1].clone()
    table[TAIL[0]] = -torch.inf
    return tuple(table.topk(OTHERS).indices.tolist())


def test_it_is_how_much_likelier_the_span_is_than_what_is_said_without_it(margin, contrast):
    subject = shared()
    befores = [(80,), (80, *TAIL, 81)]
    others = [likeliest_others(subject, "c d", before) for before in befores]  # under the other prompt of the pair
    expected = [by_hand(subject, "a b", b, TAIL, o) for b, o in zip(befores, others, strict=True)]
    [value] = measure_margins(subject, margin, contrast.positive)
    assert value == pytest.approx(sum(expected) / 2, abs=of_margins(subject, predictions=8))


def test_where_no_span_stands_it_is_read_where_one_is_likeliest_to_begin(margin, contrast):
    subject = shared()
    [tokens] = subject.render(["c d"])
    table = logits(subject, (*tokens, 80, 81, 82)).log_softmax(dim=-1)[len(tokens) - 1 :, TAIL[0]]
    place = int(table.argmax())  # from before the answer to its end
    before = (80, 81, 82)[:place]
    expected = by_hand(subject, "c d", before, TAIL, likeliest_others(subject, "c d", before))
    [value] = measure_margins(subject, margin, contrast.negative)
    assert value == pytest.approx(expected, abs=of_margins(subject, predictions=4))


def test_a_prompt_without_an_answer_is_refused(margin):
    with pytest.raises(MarginError, match=r"has no answer of the model's own.*margin\.extended"):
        measure_margins(shared(), margin, [Example("elsewhere")])
    more = margin.extended(shared(), [Contrast.of(["elsewhere"], ["nowhere"])])
    assert len(measure_margins(shared(), more, [Example("elsewhere"), Example("nowhere")])) == 2


def test_a_span_at_the_first_place_is_an_opening(contrast):
    """Both are the log odds of the same tokens where the others are all tokens there are."""
    subject = shared()
    answers = [Answer(one.prompt, "", (*TAIL, 5), is_finished=True) for one in (*contrast.positive, *contrast.negative)]
    margin = SpanMargin(SPANS, {}).reading(subject, [contrast], answers)
    openers = measure_margins(subject, Openers.of([TAIL]), contrast.positive)
    [read] = [answer.places for key, answer in margin.answers.items() if key == "a b"]
    assert [place.start for place in read] == [0]
    # log p - log(1 - p) is below log p - log(others), as the others are a part of all there is
    assert measure_margins(subject, margin, contrast.positive)[0] > openers[0]


def test_a_circuits_file_records_it_and_it_is_made_again_for_other_prompts(margin, contrast):
    found = BehaviourMargin.of(margin, kind="spans")
    record = json.loads(json.dumps(found.record()))
    assert record["kind"] == "spans"
    again = recorded_margin(record, shared(), Behaviour("tail"), [contrast])
    assert again.pushed.spans == SPANS
    assert len(measure_margins(shared(), again.pushed, contrast.positive)) == 1
    assert "'tail', in 100% of the answers to P+" in again.text
    more = found.for_prompts(shared(), [Contrast.of(["elsewhere"], ["nowhere"])])
    assert len(measure_margins(shared(), more.reported, [Example("elsewhere")])) == 1
    with pytest.raises(MarginError, match="can't be read"):
        recorded_margin({"kind": "spans"}, shared(), Behaviour("tail"), [contrast])
