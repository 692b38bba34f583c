"""An answer followed token by token through thinking, saying and calling tools."""

import pytest
from tests.scripted import ids, speaking

from neurodial.text.answer_parts import PartTracker
from neurodial.text.thinking import Markers

THINK, CALL = Markers("<think>", "</think>"), Markers("<tool_call>", "</tool_call>")
SPECIAL = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<|channel|>", "<|message|>", "<|end|>")
CHANNELS = Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")
COMMENTS = Markers("<|channel|>commentary to=", "")


def parts_of(text, thinking=(), tools=(), *, special=SPECIAL, **options):
    """One letter for the part of each token: a, t, c."""
    subject = speaking(special)
    tracker = PartTracker(subject.tokenizer, thinking, tools, **options)
    return "".join({"answer": "a", "thinking": "t", "tools": "c"}[tracker.feed(token)] for token in ids(subject, text))


def test_a_marker_that_opens_belongs_to_its_block_and_one_that_closes_to_what_follows():
    assert parts_of("<think>ab</think>cd", [THINK]) == "ttt" + "aaa"
    assert parts_of("x<tool_call>ab</tool_call>cd", (), [CALL]) == "a" + "ccc" + "aaa"
    assert parts_of("ab</think>cd", [THINK], starts_inside=True) == "tt" + "aaa"


def test_markers_of_several_tokens():
    found = parts_of("<think>ab</think>cd", [THINK], special=())
    assert found == "a" * 6 + "t" * (1 + 2 + 7) + "a" * 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<think>a<tool_call>b</tool_call>c</think>d", "tt" + "cc" + "tt" + "aa"),
        ("<think>a</think>b<think>c</think>d", "tt" + "aa" + "tt" + "aa"),
        ("<think>a</think>b<tool_call>c", "tt" + "aa" + "cc"),
        ("a</think>b", "aaa"),
    ],
)
def test_blocks_in_turn(text, wanted):
    assert parts_of(text, [THINK], [CALL]) == wanted


def test_channels():
    said = "<|channel|>analysis<|message|>ab<|end|><|channel|>final<|message|>cd"
    assert parts_of(said, [CHANNELS], [COMMENTS]) == "a" * 9 + "t" + "tt" + "t" + "t" * 6 + "a" + "aa"
    call = "<|channel|>commentary to=f<|message|>x"
    assert (
        parts_of(call, [CHANNELS], [COMMENTS]).lstrip("a") == "c" * 4
    )  # the last sign of the marker, and on to the end


def test_markers_that_nothing_names_count_at_an_answers_beginning_alone():
    assert parts_of("<think>ab</think>c") == "ttt" + "aa"
    assert parts_of("<think>ab</think>c", special=()) == "a" * 6 + "t" * (1 + 2 + 7) + "a" * 2
    assert parts_of("say <think>ab") == "a" * 7


def test_a_tracker_begins_anew():
    subject = speaking(SPECIAL)
    tracker = PartTracker(subject.tokenizer, [THINK])
    first = [tracker.feed(token) for token in ids(subject, "<think>a</think>b")]
    tracker.restart()
    assert [tracker.feed(token) for token in ids(subject, "<think>a</think>b")] == first
