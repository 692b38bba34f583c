"""Which tokens are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.activations.position import Index, Last, PostInstruction, parse_position
from neurodial.errors import ActivationError, OptionError
from neurodial.model.tiny import tiny_tokenizer
from neurodial.prompts.render import post_instruction_length, render


@given(st.integers(1, 50), st.integers(-60, 60))
def test_positions_are_those_of_a_python_list(length, index):
    tokens = list(range(length))
    assert Last().read(length) == [tokens[-1]]
    if -length <= index < length:
        assert Index(index).read(length) == [tokens[index]]
    else:
        with pytest.raises(ActivationError):
            Index(index).read(length)


@given(st.integers(1, 50), st.integers(1, 60))
def test_post_instruction_is_the_end(length, last):
    tokens = list(range(length))
    assert PostInstruction(last).read(length) == tokens[-last:]


@pytest.mark.parametrize(
    ("text", "position"),
    [("last", Last()), ("post-instruction", PostInstruction()), ("-3", Index(-3)), ("0", Index(0))],
)
def test_parsing(text, position):
    assert parse_position(text) == position


def test_parsing_refuses():
    with pytest.raises(OptionError, match=r"'first'.*last, post-instruction or an integer"):
        parse_position("first")


def test_the_tokens_after_the_instruction_are_the_templates():
    tokenizer = tiny_tokenizer()
    length = post_instruction_length(tokenizer)
    for [tokens] in (render(tokenizer, ["Hello"]), render(tokenizer, ["something else"])):
        assert tokenizer.decode(tokens[-length:]) == "<eos><assistant>"
