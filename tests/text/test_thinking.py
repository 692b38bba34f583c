"""Thinking told from answers: in texts, and in tokens whose special ones are dropped."""

import pytest
from tests.scripted import ids, speaking

from neurodial.text.thinking import THINKING, TOOLS, Markers, markers_of, special_markers, split_thinking, spoken

THINK = [Markers("<think>", "</think>")]
CHANNELS = Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")


@pytest.mark.parametrize(
    ("text", "thinking", "answer", "is_endless"),
    [
        ("plain", None, "plain", False),
        ("<think>a</think>b", "a", "b", False),
        ("\n<think>\na\n</think>\n\nb", "a", "b", False),
        ("a</think>b", "a", "b", False),
        ("a</think>b</think>c", "a\nb", "c", False),
        ("<think>\n\n</think>\n\nb", None, "b", False),
        ("<think>a", "a", "", True),
        ("<think>a</think>b<think>c</think>d", "a\nc", "bd", False),
        ("<think>a</think>b<think>c", "a\nc", "b", True),
        ("One writes <think> before a thought.", None, "One writes <think> before a thought.", False),
    ],
)
def test_a_text_in_thinking_and_answer(text, thinking, answer, is_endless):
    assert split_thinking(text, THINK) == (thinking, answer, is_endless)


def test_a_text_that_starts_inside():
    assert split_thinking("a</think>b", THINK, starts_inside=True) == ("a", "b", False)
    assert split_thinking("a", THINK, starts_inside=True) == ("a", "", True)


@pytest.mark.parametrize("pair", [pair for pair in THINKING if not pair.begin[0].isalpha()])
def test_markers_that_nothing_names_are_found_in_an_answer_that_begins_with_them(pair):
    assert split_thinking(f"{pair.begin}a b{pair.end}c") == ("a b", "c", False)
    assert split_thinking(f"{pair.begin}a b") == ("a b", "", True)
    assert split_thinking(f"Write {pair.end} there") == (None, f"Write {pair.end} there", False)


def test_words_are_markers_only_where_a_template_names_them():
    text = "Here is my thought process: a. Here is my response: b"
    assert split_thinking(text).thinking is None
    assert split_thinking(text, markers_of("… Here is my response: …")) == ("a.", "b", False)


@pytest.mark.parametrize("between", ["<|end|><|start|>assistant", "assistant", ""])
def test_what_stands_between_channels_is_not_thought(between):
    assert split_thinking(f"{CHANNELS.begin}XYZ{between}{CHANNELS.end}Hi") == ("XYZ", "Hi", False)
    assert split_thinking("<think>of the assistant</think>b").thinking == "of the assistant"


def test_several_named_markers_and_the_one_that_comes_first_is_meant():
    assert split_thinking("[THINK]a</think>[/THINK]b", [*THINK, Markers("[THINK]", "[/THINK]")]).answer == "b"


def test_markers_come_from_the_template_or_the_tokenizer():
    assert markers_of("… {{ '<think>\\n' }}") == tuple(THINK)
    assert markers_of("… </think> …") == tuple(THINK)
    assert markers_of(None) == ()
    assert markers_of("… <tool_call> …", known=TOOLS) == (Markers("<tool_call>", "</tool_call>"),)
    both, end, half = (speaking(tokens) for tokens in (["◁think▷", "◁/think▷"], ["◁/think▷"], ["◁think▷"]))
    assert markers_of(None, both.tokenizer) == markers_of(None, end.tokenizer) == (Markers("◁think▷", "◁/think▷"),)
    assert markers_of(None, half.tokenizer) == ()


def test_special_tokens_of_markers_stay_and_others_go():
    tokenizer = speaking(["</think>", "<|end|>"]).tokenizer
    tokens = tokenizer("XYZ</think>Hi<|end|><eos>", add_special_tokens=False)["input_ids"]
    kept = special_markers(tokenizer)
    assert [tokenizer.decode([token]) for token in kept] == ["</think>"]
    assert spoken(tokenizer, tokens, kept) == "XYZ</think>Hi"
    assert spoken(tokenizer, tokens[4:], kept) == tokenizer.decode(tokens[4:], skip_special_tokens=True) == "Hi"
    own = special_markers(tokenizer, [Markers("<x>", "<|end|>")])
    assert spoken(tokenizer, tokens, own) == "XYZ</think>Hi<|end|>"
    assert ids(speaking(["</think>"]), "</think>") == [259]
