"""Text as it comes: the pieces are the whole, and a stop text ends it wherever the pieces are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.generation.text_stream import TextStream
from neurodial.model.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
BYTES = st.lists(st.integers(0, 259), max_size=60)
TEXTS = st.text(alphabet="abé€😀 \n", max_size=40)


def pieces(tokens, stop=()):
    """Pieces until the stream says that it stopped, and the stream."""
    stream = TextStream(TOKENIZER, stop)
    found = []
    for token in tokens:
        found.append(stream.add(token))
        if stream.is_stopped:
            return found, stream
    found.append(stream.end())
    return found, stream


def tokens_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(BYTES)
def test_pieces_of_any_bytes_are_the_whole_text(tokens):
    """Most such bytes are no characters at all."""
    found, _ = pieces(tokens)
    assert "".join(found) == TOKENIZER.decode(tokens, skip_special_tokens=True)


@given(TEXTS)
def test_a_character_comes_whole(text):
    found, _ = pieces(tokens_of(text))
    assert "".join(found) == text
    assert "\ufffd" not in "".join(found[:-1])


@given(TEXTS, st.lists(st.text(alphabet="abé€😀", min_size=1, max_size=3), min_size=1, max_size=3))
def test_the_first_stop_text_ends_it(text, stop):
    found, stream = pieces(tokens_of(text), stop)
    places = [text.find(one) for one in stop if one in text]
    assert stream.is_stopped == bool(places)
    if not places:
        assert "".join(found) == text
        return
    # The stop text whose last character comes first ends it; of several that end there, the longest.
    end = min(text.find(one) + len(one) for one in stop if one in text)
    cut = min(text.find(one) for one in stop if one in text and text.find(one) + len(one) == end)
    assert "".join(found) == text[:cut]


def test_text_waits_only_while_it_may_begin_a_stop_text():
    found, _ = pieces(tokens_of("a END. b ENOUGH"), ["ENOUGH"])
    assert found[:7] == ["a", " ", "", "", "END", ".", " "]
    assert "".join(found) == "a END. b "


def test_an_incomplete_character_at_the_end_is_shown_as_one():
    found, _ = pieces(tokens_of("é")[:1])
    assert found == ["", "\ufffd"]


@pytest.mark.parametrize("length", [11, 12, 13, 40, 200])
def test_decoding_costs_no_more_for_a_long_answer(length):
    class Counting:
        longest = 0

        def decode(self, tokens, **options):
            self.longest = max(self.longest, len(tokens))
            return TOKENIZER.decode(tokens, **options)

    counting = Counting()
    stream = TextStream(counting)
    text = "".join(stream.add(97 - 33) for _ in range(length)) + stream.end()
    assert text == TOKENIZER.decode([97 - 33] * length)
    assert counting.longest <= 20
