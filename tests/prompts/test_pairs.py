"""Contrasts and pair sets as values: what they refuse, how they are dealt, what their hashes depend on."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.errors import OverlapError, PromptError
from neurodial.prompts.pairs import SPLITS, Behaviour, Contrast, PairSet, deal, refuse_overlap
from neurodial.prompts.prompt import Example, Message, as_messages, prompt_text

CHAT = (Message("system", "Be brief."), Message("user", "What is rust?"), Message("assistant", "Rust is"))
WORDS = st.text("abcdefghij", min_size=1, max_size=8)


def numbered(word: str, count: int) -> list[str]:
    return [f"{word} number {number}?" for number in range(count)]


def texts(contrast: Contrast) -> tuple[set[str], set[str]]:
    return {prompt_text(e.prompt) for e in contrast.positive}, {prompt_text(e.prompt) for e in contrast.negative}


@st.composite
def two_sides(draw):
    """Two lists of prompts, none of which is listed twice, even with case and spaces folded."""
    words = draw(st.lists(WORDS, min_size=2, max_size=40, unique=True))
    cut = draw(st.integers(1, len(words) - 1))
    return words[:cut], words[cut:]


# ------------------------------------------------------------------------------------------- a contrast


def test_a_contrast_takes_texts_chats_and_examples():
    example = Example("How?", category="odd", positive_answer="So.", negative_answer="No.")
    contrast = Contrast.of(["Why?", CHAT], [example])
    assert contrast.positive == (Example("Why?"), Example(CHAT))
    assert contrast.negative == (example,)
    assert len(contrast) == 3


@pytest.mark.parametrize(("positive", "negative", "side"), [([], ["a"], "positive"), (["a"], [], "negative")])
def test_a_one_sided_contrast_is_refused(positive, negative, side):
    with pytest.raises(PromptError, match=f"The {side} side has no prompts"):
        Contrast.of(positive, negative)


@pytest.mark.parametrize("blank", ["", "  \n\t", (Message("user", " "),), ()])
def test_a_blank_prompt_is_refused(blank):
    with pytest.raises(PromptError, match="Prompt 2 of the negative side is blank"):
        Contrast.of(["a"], ["b", blank])


@pytest.mark.parametrize("copy", ["How do I pay?", "how do i PAY?", " How  do I\tpay? "])
def test_a_copy_on_one_side_is_refused(copy):
    with pytest.raises(PromptError, match="'how do i pay\\?' is listed 2 times on the positive side"):
        Contrast.of(["How do I pay?", "other", copy], ["b"])


@pytest.mark.parametrize("copy", ["How do I pay?", "how do i PAY?", " How  do I\tpay? "])
def test_a_prompt_on_both_sides_is_refused(copy):
    with pytest.raises(OverlapError, match="1 prompt is on both sides, such as 'how do i pay\\?'"):
        Contrast.of(["How do I pay?"], ["b", copy])


def test_the_same_request_answered_two_ways_is_a_contrast():
    sure, sorry = ((Message("user", "Why?"), Message("assistant", answer)) for answer in ("Sure", "Sorry"))
    assert len(Contrast.of([sure], [sorry])) == 2


def test_swapping_exchanges_the_sides_and_twice_is_nothing():
    contrast = Contrast.of(["a"], ["b", "c"])
    assert contrast.swapped().positive == contrast.negative
    assert contrast.swapped().hash != contrast.hash
    assert contrast.swapped().swapped() == contrast


@given(sides=two_sides(), data=st.data())
def test_the_hash_of_a_contrast_does_not_depend_on_the_order(sides, data):
    shuffled = [data.draw(st.permutations(side)) for side in sides]
    assert Contrast.of(*shuffled).hash == Contrast.of(*sides).hash


@given(sides=two_sides())
def test_the_hash_of_a_contrast_depends_on_every_prompt(sides):
    positive, negative = sides
    whole = Contrast.of(positive, negative).hash
    assert Contrast.of([*positive, "new"], negative).hash != whole
    assert Contrast.of(positive, [*negative, "new"]).hash != whole
    assert Contrast.of([positive[0] + "!", *positive[1:]], negative).hash != whole


@pytest.mark.parametrize("change", [{"category": "x"}, {"positive_answer": "x"}, {"negative_answer": "x"}])
def test_the_hash_of_a_contrast_depends_on_what_goes_with_a_prompt(change):
    plain = Example("a")
    assert Contrast.of([plain], ["b"]).hash != Contrast.of([dataclasses.replace(plain, **change)], ["b"]).hash


def test_the_hash_tells_a_system_message_from_a_user_message():
    first, second = ((Message(role, "a"), Message("user", "b")) for role in ("system", "user"))
    assert Contrast.of([first], ["c"]).hash != Contrast.of([second], ["c"]).hash


# ------------------------------------------------------------------------------------------- splits


def contrasts() -> tuple[Contrast, Contrast, Contrast]:
    first, second, third = (Contrast.of(numbered(f"bad {split}", 2), numbered(f"good {split}", 2)) for split in SPLITS)
    return first, second, third


@pytest.mark.parametrize("first", SPLITS)
@pytest.mark.parametrize("second", SPLITS)
@pytest.mark.parametrize("side", ["positive", "negative"])
@pytest.mark.parametrize("fold", [str, str.upper, lambda text: f"\n {text.replace(' ', '   ')} "])
def test_a_prompt_in_any_two_splits_is_refused(first, second, side, fold):
    if SPLITS.index(first) >= SPLITS.index(second):
        return
    parts = dict(zip(SPLITS, contrasts(), strict=True))
    text = fold(prompt_text(parts[first].positive[0].prompt))
    sides = {"positive": parts[second].positive, "negative": parts[second].negative}
    sides[side] = (*sides[side], Example(text))
    parts[second] = Contrast(sides["positive"], sides["negative"])
    with pytest.raises(OverlapError, match=f"1 prompt is in both {first} and {second}, such as"):
        PairSet(Behaviour("x"), (parts["discovery"], parts["development"], parts["test"]))


def test_splits_without_a_common_prompt_are_taken():
    pairs = PairSet(Behaviour("x"), contrasts())
    assert (pairs.discovery, pairs.development, pairs.test) == contrasts()


def test_a_chat_whose_request_stands_in_another_split_is_refused():
    """A new answer after it makes no new request."""
    sure, sorry = ((Message("user", "Why?"), Message("assistant", answer)) for answer in ("Sure", "Sorry"))
    parts = (Contrast.of([sure], ["a"]), None, Contrast.of(["b"], [sorry]))
    with pytest.raises(OverlapError, match="both discovery and test, such as 'why\\?'"):
        PairSet(Behaviour("x"), parts)


def test_overlap_counts_and_shortens_what_it_shows():
    long = "word " * 50
    with pytest.raises(OverlapError, match="2 prompts are in both one and two") as caught:
        refuse_overlap({"one": [long, "a"], "two": ["A", long]})
    assert len(str(caught.value)) < 300
    with pytest.raises(OverlapError, match="…'"):
        refuse_overlap({"one": [long], "two": [long]})


def test_a_missing_split_is_an_error_only_when_asked_for():
    pairs = PairSet(Behaviour("x"), (contrasts()[0], None, None))
    assert pairs.discovery == contrasts()[0]
    for name in ("development", "test"):
        with pytest.raises(PromptError, match=f"'x' has no {name} prompts on both sides"):
            pairs.split(name)


def test_the_rate_is_measured_on_the_side_that_the_behaviour_names():
    parts = contrasts()
    for side in ("positive", "negative"):
        pairs = PairSet(Behaviour("x", rate_on=side), parts)
        assert pairs.measured("test") == getattr(parts[2], side)


def test_the_hash_of_a_set_depends_on_which_split_a_prompt_is_in():
    first, second, third = contrasts()
    hashes = {
        PairSet(Behaviour("x"), parts).hash
        for parts in [(first, second, third), (second, first, third), (first, second, None), (first, None, second)]
    }
    assert len(hashes) == 4
    assert PairSet(Behaviour("another name"), (first, second, third)).hash in hashes


# ------------------------------------------------------------------------------------------- dealing


@given(count=st.integers(0, 200))
def test_dealing_keeps_every_item_and_gives_40_20_40(count):
    parts = deal(range(count), str)
    assert sorted(item for part in parts for item in part) == list(range(count))
    for part, share in zip(parts, (0.4, 0.2, 0.4), strict=True):
        assert abs(len(part) - share * count) <= 1


@given(sides=two_sides(), data=st.data())
def test_dealing_does_not_depend_on_the_order(sides, data):
    shuffled = [data.draw(st.permutations(side)) for side in sides]
    first, second = PairSet.of(*sides), PairSet.of(*shuffled)
    assert first.hash == second.hash
    for one, other in zip(first.splits, second.splits, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert texts(one) == texts(other)


def test_dealing_is_not_by_the_order_of_the_letters():
    """Sets are often sorted by topic: the first forty per cent of the file are not forty per cent of the topics."""
    pairs = PairSet.of(numbered("a", 50) + numbered("z", 50), numbered("n", 100))
    letters = {text[0] for text in texts(pairs.discovery)[0]}
    assert letters == {"a", "z"}


@given(sides=two_sides())
def test_dealt_splits_share_nothing(sides):
    pairs = PairSet.of(*sides)
    found = [text for split in pairs.splits if split is not None for side in texts(split) for text in side]
    assert len(found) == len(set(found))


def test_a_prompt_keeps_its_split_when_its_case_changes():
    positive, negative = numbered("bad", 10), numbered("good", 10)
    loud = PairSet.of([text.upper() for text in positive], negative)
    assert {text.lower() for text in texts(loud.test)[0]} == texts(PairSet.of(positive, negative).test)[0]


@pytest.mark.parametrize(
    ("positive", "negative", "problem"),
    [
        ([], ["b"], "positive side has no prompts"),
        (["a"], [], "negative side has no prompts"),
        (["a", "A"], numbered("good", 10), "is listed 2 times"),
        (numbered("bad", 10), [*numbered("good", 10), "BAD number 3?"], "on both sides"),
        (numbered("bad", 10), [*numbered("good", 10), "BAD number 4?"], "on both sides"),
    ],
)
def test_what_is_wrong_is_found_wherever_a_prompt_is_dealt(positive, negative, problem):
    with pytest.raises(PromptError, match=problem):
        PairSet.of(positive, negative)


def test_too_few_prompts_leave_a_split_out_in_words():
    pairs = PairSet.of(["a"], ["b"])
    assert len(pairs.test) == 2
    with pytest.raises(PromptError, match=r"no discovery prompts.*Add some"):
        _ = pairs.discovery


# ------------------------------------------------------------------------------------------- prompts


def test_a_text_is_a_chat_of_one_user_message():
    assert as_messages("Why?") == [{"role": "user", "content": "Why?"}]
    assert [message["role"] for message in as_messages(CHAT)] == ["system", "user", "assistant"]


def test_the_text_of_a_chat_is_what_the_user_said_last():
    assert prompt_text("Why?") == "Why?"
    assert prompt_text((Message("user", "First"), Message("assistant", "Yes?"), Message("user", "Last"))) == "Last"
    assert prompt_text(CHAT) == "What is rust?"
    assert prompt_text((Message("system", "Only this."),)) == "Only this."
