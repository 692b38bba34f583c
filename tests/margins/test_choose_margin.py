"""Which margin a behaviour gets where its own answers and a detector are known, and what is said of the choice."""

import logging

import pytest
from tests.subjects import shared

from neurodial.circuit.report import MarginAgreement
from neurodial.errors import MarginError
from neurodial.generation.generate import Answer
from neurodial.margins import choose_margin as choosing
from neurodial.margins import judged
from neurodial.margins.beginnings import OpenerSearch
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.judged import BEGINNING, BothSides, Evidence, JudgedAnswers, judge_answers
from neurodial.margins.margin import AnswerMargin, ClassifierLogit, Openers
from neurodial.margins.openers import SideAnswers, find_openers
from neurodial.margins.weigh import rank_auroc, weigh
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.prompts.prompt import Example

TAIL = (70, 71)


def answer(prompt, *tokens):
    return Answer(prompt, " ".join(f"w{token}" for token in tokens), tokens, is_finished=True)


def paired(sizes=(6, 4)):
    """Loud and quiet requests in pairs; the prompts of development follow on those of discovery."""
    splits, start = [], 0
    for size in sizes:
        texts = [(f"say {n} loudly", f"say {n} quietly") for n in range(start, start + size)]
        sides = [Example(a, counterpart=b) for a, b in texts], [Example(b, counterpart=a) for a, b in texts]
        splits.append(Contrast.of(*sides))
        start += size
    return PairSet(Behaviour("loud", detector="regex:w70"), (splits[0], splits[1], None))


@pytest.fixture
def script(monkeypatch):
    """Lets the model answer as a function of the prompt says; gives prompts and tokens of each call."""
    asked = []

    def install(say):
        def generate(subject, prompts, decoding, **_):
            asked.append((len(prompts), decoding.max_new_tokens))
            return [answer(prompt, *say(prompt)[: decoding.max_new_tokens]) for prompt in prompts]

        monkeypatch.setattr(judged, "generate", generate)
        return asked

    return install


def with_tail(prompt):
    """All answers begin alike; loud ones have a tail."""
    number = int(prompt.split()[1])
    return (*range(80, 80 + BEGINNING), 90 + number % 3, *(TAIL if "loudly" in prompt else ()))


def sees_tail(exchanges):
    return ["w70" in text for _, text in exchanges]


def chosen(pairs=None, shows=sees_tail, neutral=(), **options):
    pairs = pairs or paired()
    return choose_margin(shared(), pairs, evidence=Evidence(judge_answers(shared(), pairs, shows), neutral), **options)


def test_a_tail_is_told_by_spans_where_all_answers_begin_alike(script, caplog):
    script(with_tail)
    with caplog.at_level(logging.INFO):
        margin = chosen()
    assert margin.kind == "spans"
    assert margin.weighed["spans"].accuracy == 1.0
    assert margin.weighed["spans"].answers == 8
    assert margin.judged_by == "the behaviour's detector"
    assert margin.shows.matches((1, *TAIL))
    assert "margin spans: log odds" in caplog.text
    assert "8 development answers told apart: spans 100% right" in caplog.text
    assert "don't begin in ways of their own" in margin.text, "why it is no opening"


def test_no_behaviour_is_said_after_a_few_answers(script):
    asked = script(lambda prompt: (80, 81))
    with pytest.raises(MarginError, match=r"no behaviour to find: of 12 answers .*regex:w70.* in none.*'w80 w81' \(12"):
        chosen(paired((20, 4)))
    assert asked == [(12, 48)]


def test_sides_that_are_answered_alike_have_no_margin(script):
    script(lambda prompt: (80, 81))
    with pytest.raises(MarginError, match=r"Nothing tells answers to the two sides apart.*begin 'w80 w81' \(6 of 6\)"):
        chosen(shows=None)


def test_discovery_answers_are_made_whole_only_where_beginnings_tell_too_little(script):
    asked = script(beginning)
    assert chosen(direction="induce").kind == "openers"
    assert asked == [(6, 48), (8, 48), (6, BEGINNING)]
    asked.clear()
    script(with_tail)
    assert chosen().kind == "spans"
    assert asked == [(6, 48), (8, 48), (6, BEGINNING), (6, 48)]


def test_longer_openings_than_the_beginnings_are_looked_for_in_whole_answers(script):
    script(lambda prompt: tuple(range(100, 100 + BEGINNING)) + ((70,) if "loudly" in prompt else (71,)))
    openers = OpenerSearch(length=BEGINNING + 1)
    assert len(chosen(direction="induce", kind="openers", openers=openers).pushed.tokens[0]) == BEGINNING + 1


def weighing(monkeypatch, **worth):
    def fake(subject, margin, *_, **__):
        return MarginAgreement(worth[margin.kind.replace("-", "_")], 1.0, 8)

    monkeypatch.setattr(choosing, "weigh", fake)


def beginning(prompt):
    """Loud answers begin in a way of their own, and have the tail; quiet ones begin in another."""
    return (50 if "loudly" in prompt else 51, 80, *(TAIL if "loudly" in prompt else ()))


@pytest.mark.parametrize(
    ("openings", "spans", "taken"),
    [
        (0.95, 1.0, "openers"),
        (0.92, 1.0, "openers"),
        (0.85, 1.0, "spans"),
        (0.8, 0.85, "openers"),
        (0.5, 0.6, "own-answers"),
    ],
)
def test_the_first_that_is_nearly_as_good_as_the_best_is_taken(script, monkeypatch, openings, spans, taken):
    script(beginning)
    weighing(monkeypatch, openers=openings, spans=spans, own_answers=0.9)
    margin = chosen(direction="induce")
    assert margin.kind == taken
    assert set(margin.weighed) == {
        "openers",
        *(["spans"] if openings < 0.9 else []),
        *(["own-answers"] if openings < 0.75 else []),
    }


@pytest.mark.parametrize(
    ("openings", "spans", "taken", "asked_whole", "seen"),
    [
        (0.8, 0.85, "openers", [36], 48),  # 48 answers to discovery prompts, 12 of which are whole already
        (0.8, 0.95, "spans", [36, 32], 80),  # spans may be taken: they are found and weighed on all
        (0.7, 0.72, "own-answers", [68], 80),  # openings are not good: no look
        (0.92, 1.0, "openers", [], None),
    ],
)
def test_with_many_prompts_spans_are_looked_for_in_a_part(
    script, monkeypatch, openings, spans, taken, asked_whole, seen
):
    asked = script(beginning)
    pairs = paired((40, 40))

    def fake(subject, margin, development, judged, **_):
        answers = len(judged.development.positive) + len(judged.development.negative)
        assert answers == len(judged.shown) == len(development)
        assert list(judged.shown) == [True] * (answers // 2) + [False] * (answers // 2)
        worth = {"openers": openings, "spans": spans, "own-answers": 0.9}[margin.kind]
        return MarginAgreement(worth, 1.0, answers)

    monkeypatch.setattr(choosing, "weigh", fake)
    margin = chosen(pairs, direction="induce")
    assert margin.kind == taken
    assert [count for count, tokens in asked[3:] if tokens == 48] == asked_whole
    assert asked[:3] == [(12, 48), (80, 48), (68, BEGINNING)]
    if seen is not None:
        assert margin.weighed["spans"].answers == seen
    if taken == "spans":
        assert len(margin.pushed.answers) == 160


def test_a_margin_can_be_named_whatever_it_is_worth(script, monkeypatch, caplog):
    script(beginning)
    weighing(monkeypatch, openers=0.9, spans=0.6, own_answers=0.5)
    assert chosen(kind="spans").kind == "spans"
    assert "The margin spans tells development answers" in caplog.text
    assert "60% right" in caplog.text
    caplog.clear()
    assert chosen(kind="openers").kind == "openers"
    assert "badly" not in caplog.text


def test_a_detector_that_disagrees_with_every_margin_is_warned_of(script, caplog):
    """It sees the behaviour in the answers that have an odd number, on either side."""
    script(with_tail)
    margin = chosen(shows=lambda exchanges: [int(prompt.split()[1]) % 2 == 1 for prompt, _ in exchanges])
    assert all(agreement.worth < 0.75 for agreement in margin.weighed.values())
    assert "badly" in caplog.text
    assert "by the behaviour's detector" in caplog.text


def test_a_detector_that_says_the_same_of_all_answers_leaves_the_sides_to_tell(script):
    script(with_tail)
    assert "says the same of all" in chosen(shows=lambda exchanges: [True] * len(exchanges)).judged_by


def test_without_a_detector_a_classifier_of_the_answers_says(script):
    script(with_tail)
    assert chosen(shows=None).judged_by == "a classifier of the model's own answers"


def test_it_is_weighed_by_its_own_sign_and_by_its_order():
    subject, contrast = shared(), paired((4, 4)).discovery
    answers = BothSides(
        [answer("say 0 loudly", 9, 1), answer("b", 5), answer("c", 9), answer("d", 7)], [answer(x, 6) for x in "efgh"]
    )
    judged_answers = JudgedAnswers(answers, answers, (True, True, True, None, *[False] * 4), "a test")
    found = weigh(subject, BehaviourMargin.of(Openers.of([(9,)]), kind="openers"), contrast, judged_answers)
    assert found.accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert found.answers == 7
    lengths = ClassifierLogit(lambda hidden: hidden.new_tensor(float(hidden.shape[0])))
    by_length = weigh(subject, BehaviourMargin.of(lengths), contrast, judged_answers)
    rendered = subject.render([e.prompt for e in (*contrast.positive, *contrast.negative)])
    sizes = [float(len(tokens)) for n, tokens in enumerate(rendered) if n != 3]
    assert by_length.auroc == pytest.approx(rank_auroc(sizes, [True] * 3 + [False] * 4))
    assert by_length.accuracy == 0.5, "all are above 0"


def test_a_word_that_neutral_answers_begin_with_too_is_no_opener():
    positive = [answer(f"p{n}", 60, 61, n) for n in range(6)]
    negative = [answer(f"n{n}", 62, n) for n in range(6)]
    neutral = [answer(f"x{n}", 60, 65, n) for n in range(4)] + [answer("y", 66)]
    contrast = Contrast.of([a.prompt for a in positive], [a.prompt for a in negative])
    assert find_openers(shared(), contrast, answers=SideAnswers(positive, negative)).tokens == ((60,),)
    with pytest.raises(
        MarginError, match=r"neutral prompts begin as those to the positive prompts do: 80% .*--neutral"
    ):
        find_openers(
            shared(), contrast, answers=SideAnswers(positive, negative, [answer("z", 60, 61, 5)] * 8 + neutral[4:] * 2)
        )


def test_a_margin_of_the_prompt_file_is_weighed_too(script):
    script(with_tail)
    pairs = paired()
    behaviour = Behaviour("loud", margin="answer", answers=("yes", "no"), detector="regex:w70")
    margin = chosen(PairSet(behaviour, pairs.splits))
    assert isinstance(margin.pushed, AnswerMargin)
    assert set(margin.weighed) == {"answer"}
