"""Text measures in closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.text.words import distinct, measure_text, ngrams, repetition, words_of


@given(st.lists(st.sampled_from("abcde"), max_size=30), st.integers(1, 5))
def test_repetition_is_one_minus_unique_over_all(letters, n):
    grams = [tuple(letters[start : start + n]) for start in range(max(0, len(letters) - n + 1))]
    expected = 1 - len(set(grams)) / len(grams) if grams else 0.0
    assert repetition(" ".join(letters), n=n) == pytest.approx(expected)


def test_the_last_ngram_counts():
    """The public code's range ends one early; the last n-gram is a copy here, and must be seen."""
    assert repetition("a b a b", n=2) == pytest.approx(1 / 3)


def test_distinct_is_over_all_texts_together():
    assert distinct(["a b", "a b"]) == 0.5
    assert distinct(["a b", "c d"]) == 1.0
    assert math.isnan(distinct(["a"]))


def test_words_of_languages_without_spaces_are_characters():
    assert words_of("日本 ok") == ["日", "本", "ok"]
    assert words_of("ไม่ดี") == ["ไ", "ม่", "ดี"]
    assert ngrams([], 2) == []


def test_words_are_whole_where_a_script_writes_signs_onto_letters():
    assert words_of("मुझे खेद है।") == ["मुझे", "खेद", "है"]
    assert words_of("দুঃখিত, আমি") == ["দুঃখিত", "আমি"]
    assert words_of("도와 드릴게요") == ["도와", "드릴게요"]
    assert words_of("شكرًا جزيلًا") == ["شكرًا", "جزيلًا"]


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_plain_english_is_split_as_any_other_text(text):
    """ASCII has a quicker pattern; an accented word at the end sends the same text through the general one."""
    assert [*words_of(text), "é"] == words_of(text + " é")


def test_punctuation_is_no_word():
    assert measure_text("…!? –").words == 0
    assert measure_text("Ça n’va pas").words == 3
