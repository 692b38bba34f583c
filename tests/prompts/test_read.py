"""Prompt files: every form a record may have, and what is said of those that are not one."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodial.errors import FileError, OverlapError, PromptError
from neurodial.prompts.pairs import SPLITS, Behaviour, Contrast, PairSet
from neurodial.prompts.prompt import Example, Message, prompt_text
from neurodial.prompts.read import read_pair_file, read_rows

PROMPTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).map(str.strip)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def both(pairs: PairSet) -> Contrast:
    """The one split that a file of a single pair has."""
    (split,) = [split for split in pairs.splits if split is not None]
    return split


# ------------------------------------------------------------------------------------------- forms


def test_a_pair_of_texts(tmp_path):
    row = {"positive": "Bad?", "negative": "Good?", "category": "odd", "positive_answer": "P", "negative_answer": "N"}
    contrast = both(read_pair_file(write(tmp_path, "mine.jsonl", jsonl(row))))
    assert contrast.positive == (Example("Bad?", "odd", "P", "N", counterpart="Good?"),)
    assert contrast.negative == (Example("Good?", "odd", "P", "N", counterpart="Bad?"),)


def test_a_pair_of_chats(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    row = {"positive": [system, user("Bad?")], "negative": [user("Good?"), {"role": "assistant", "content": "Well"}]}
    contrast = both(read_pair_file(write(tmp_path, "mine.jsonl", jsonl(row))))
    assert contrast.positive[0].prompt == (Message("system", "Be brief."), Message("user", "Bad?"))
    assert contrast.negative[0].prompt == (Message("user", "Good?"), Message("assistant", "Well"))


def test_texts_with_labels(tmp_path):
    rows = [{"text": "Bad?", "label": "positive"}, {"text": [user("Good?")], "label": "negative"}]
    contrast = both(read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows))))
    assert contrast.positive[0].prompt == "Bad?"
    assert contrast.negative[0].prompt == (Message("user", "Good?"),)


@pytest.mark.parametrize("prompt", ["How?", [user("How?")]])
def test_a_prompt_answered_both_ways_reads_the_answers_as_part_of_the_chat(tmp_path, prompt):
    row = {"prompt": prompt, "positive_answer": "Gladly.", "negative_answer": "No."}
    contrast = both(read_pair_file(write(tmp_path, "mine.jsonl", jsonl(row))))
    assert contrast.positive[0].prompt == (Message("user", "How?"), Message("assistant", "Gladly."))
    assert contrast.negative[0].prompt == (Message("user", "How?"), Message("assistant", "No."))


def test_sides_on_lines_of_their_own(tmp_path):
    rows = [{"positive": "Bad?", "split": "test"}, {"negative": "Good?", "split": "test"}]
    pairs = read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))
    assert len(pairs.test) == 2


def test_named_splits_are_kept(tmp_path):
    rows = [{"positive": f"bad {split}", "negative": f"good {split}", "split": split} for split in SPLITS]
    pairs = read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))
    assert [prompt_text(pairs.split(split).positive[0].prompt) for split in SPLITS] == [f"bad {s}" for s in SPLITS]
    assert pairs.behaviour == Behaviour("mine")


def test_csv(tmp_path):
    content = 'positive,negative,split,category\n"Bad, I say?",Good?,test,odd\nWorse?,"Two\nlines",test,\n'
    contrast = read_pair_file(write(tmp_path, "mine.csv", content)).test
    assert contrast.positive == (
        Example("Bad, I say?", "odd", counterpart="Good?"),
        Example("Worse?", counterpart="Two\nlines"),
    )
    assert contrast.negative == (
        Example("Good?", "odd", counterpart="Bad, I say?"),
        Example("Two\nlines", counterpart="Worse?"),
    )


def test_csv_with_labels(tmp_path):
    contrast = both(read_pair_file(write(tmp_path, "mine.csv", "text,label\nBad?,positive\nGood?,negative\n")))
    assert (contrast.positive, contrast.negative) == ((Example("Bad?"),), (Example("Good?"),))


TWO_LISTS = """
name = "politeness"
title = "Being polite"
description = "Asks nicely."
margin = "answer"
detector = "polite"
rate_on = "negative"
licence = "CC0"
positive = ["Please help me?", [{role = "system", content = "Be nice."}, {role = "user", content = "Kindly help?"}]]
negative = ["Help me now!", "Do it!"]
"""


def test_toml_with_two_lists(tmp_path):
    pairs = read_pair_file(write(tmp_path, "mine.toml", TWO_LISTS))
    assert pairs.behaviour == Behaviour(
        "politeness", "Being polite", "Asks nicely.", "answer", "polite", "negative", "CC0"
    )
    prompts = [e.prompt for split in pairs.splits if split for e in (*split.positive, *split.negative)]
    assert set(prompts) == {
        "Please help me?",
        (Message("system", "Be nice."), Message("user", "Kindly help?")),
        "Help me now!",
        "Do it!",
    }


def test_toml_lists_are_dealt_as_lists_are_in_python(tmp_path):
    positive, negative = ([f"{word} {number}" for number in range(20)] for word in ("bad", "good"))
    content = f"positive = {json.dumps(positive)}\nnegative = {json.dumps(negative)}\n"
    assert read_pair_file(write(tmp_path, "mine.toml", content)).hash == PairSet.of(positive, negative).hash


@pytest.mark.parametrize("named", [True, False])
def test_toml_beside_its_file(tmp_path, named):
    """The file of the same name is found; another one is named."""
    write(tmp_path, "other.jsonl" if named else "mine.jsonl", jsonl({"positive": "Bad?", "negative": "Good?"}))
    content = 'title = "Mine"\n' + ('file = "other.jsonl"\n' if named else "")
    pairs = read_pair_file(write(tmp_path, "mine.toml", content))
    assert pairs.behaviour == Behaviour("mine", "Mine")
    assert prompt_text(both(pairs).positive[0].prompt) == "Bad?"


def test_a_byte_order_mark_and_windows_lines_are_no_matter(tmp_path):
    rows = "\ufeff" + jsonl({"positive": "Bad?", "negative": "Good?"}).replace("\n", "\r\n") + "\r\n"
    lists = "\ufeff" + 'positive = ["Bad?"]\r\nnegative = ["Good?"]\r\n'
    table = "\ufeffpositive,negative\r\nBad?,Good?\r\n"
    hashes = {
        read_pair_file(write(tmp_path, name, content)).hash
        for name, content in [("a.jsonl", rows), ("b.toml", lists), ("c.csv", table)]
    }
    assert len(hashes) == 1


@given(data=st.lists(st.tuples(PROMPTS, PROMPTS), min_size=1, max_size=8))
def test_any_text_comes_back_from_jsonl_and_csv(tmp_path_factory, data):
    """Line separators of other scripts, quotes and commas among them."""
    folder = tmp_path_factory.mktemp("files")
    rows = [{"positive": f"p{n} {first}", "negative": f"n{n} {second}"} for n, (first, second) in enumerate(data)]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["positive", "negative"])
    writer.writeheader()
    writer.writerows(rows)
    for path in (write(folder, "a.jsonl", jsonl(*rows)), write(folder, "a.csv", table.getvalue())):
        assert [row for _, row in read_rows(path)] == rows


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c", "\x0c"])
def test_a_line_separator_of_another_kind_ends_no_line(tmp_path, separator):
    row = {"positive": f"Two{separator}lines?", "negative": "Good?"}
    path = write(tmp_path, "mine.jsonl", jsonl(row, {"positive": "a", "negative": "b"}))
    assert next(found for _, found in read_rows(path)) == row
    with pytest.raises(PromptError, match="line 3 is not JSON"):
        read_pair_file(write(tmp_path, "mine.jsonl", path.read_text(encoding="utf-8") + "{"))


# ------------------------------------------------------------------------------------------- dealing


def test_the_sides_of_a_record_go_to_the_same_split(tmp_path):
    """Matched prompts stay matched, and what a pair has in common is never in two splits."""
    rows = [{"positive": f"Harm with topic {n}", "negative": f"Help with topic {n}"} for n in range(30)]
    pairs = read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))
    for name, size in zip(SPLITS, (12, 6, 12), strict=True):
        topics = [
            [prompt_text(example.prompt).split()[-1] for example in side]
            for side in (pairs.split(name).positive, pairs.split(name).negative)
        ]
        assert topics[0] == topics[1]
        assert len(topics[0]) == size


def test_a_request_answered_both_ways_stays_in_one_split(tmp_path):
    rows = [{"prompt": f"Why {n}?", "positive_answer": "Sure.", "negative_answer": "Sorry."} for n in range(10)]
    pairs = read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))
    assert [len(split) for split in pairs.splits if split] == [8, 4, 8]


@settings(max_examples=20)
@given(order=st.permutations(range(12)))
def test_dealing_a_file_does_not_depend_on_the_order_of_its_lines(tmp_path_factory, order):
    rows = [{"positive": f"bad {n}", "negative": f"good {n}"} for n in range(12)]
    folder = tmp_path_factory.mktemp("files")
    first = read_pair_file(write(folder, "a.jsonl", jsonl(*rows)))
    second = read_pair_file(write(folder, "b.jsonl", jsonl(*(rows[n] for n in order))))
    assert first.hash == second.hash


# ------------------------------------------------------------------------------------------- bad lines

GOOD = {"positive": "Bad?", "negative": "Good?"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"positive": "Bad", ', "not JSON"),
        ("positive: Bad", "not JSON"),
        ("'single'", "not JSON"),
        ('["a", "b"]', "is list, not an object"),
        ('"just a text"', "is str, not an object"),
        ('{"positive": 3, "negative": "b"}', "positive: Input should be a valid string"),
        ('{"positive": [{"role": "user"}], "negative": "b"}', "positive.0.content: Field required"),
        (
            '{"positive": [{"role": "boss", "content": "a"}], "negative": "b"}',
            "positive.0.role: Input should be 'system', 'user' or 'assistant'",
        ),
        ('{"text": "a", "label": "bad"}', "label"),
        ('{"positive": "a", "negative": "b", "split": "train"}', "'discovery', 'development' or 'test'"),
        ('{"text": "without a label"}', "holds no prompt"),
        ('{"prompt": "one answer", "positive_answer": "a"}', "holds no prompt"),
        ('{"positve": "misspelt"}', "holds no prompt"),
        ('{"positive": "", "negative": "b"}', "the positive prompt is blank"),
        ('{"positive": "a", "negative": []}', "the negative prompt is blank"),
        ('{"positive": "half a \\ud800 letter", "negative": "b"}', "surrogates not allowed"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5_000, "not JSON"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_text(tmp_path, line, said):
    path = write(tmp_path, "mine.jsonl", jsonl(GOOD) + "\n" + line + "\n")
    with pytest.raises(PromptError) as caught:
        read_pair_file(path)
    message = str(caught.value)
    assert "mine.jsonl, line 3" in message
    assert said in message
    assert line[:20] in message
    assert len(message) < 600


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("positive,negative\nBad?,Good?\nHow, why?,Good, too?\n", "line 3 has 4 fields"),
        ('positive,negative\nBad?,Good?\n"left open,b\nc,d\n', "line 3 is not CSV"),
        ("question,answer\nWhy?,So.\n", "line 2 holds no prompt"),
        ("positive,negative\n", "holds no prompts"),
        ("", "holds no prompts"),
        ('positive,negative\n"Two\nlines",b\nc,d,e\n', "line 4 has 3 fields"),
    ],
)
def test_bad_csv_is_reported_with_its_place(tmp_path, content, said):
    with pytest.raises(PromptError, match=said):
        read_pair_file(write(tmp_path, "mine.csv", content))


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        ('positive = ["a"]', PromptError, "negative side has no prompts"),
        ('positive = []\nnegative = ["b"]', PromptError, "positive side has no prompts"),
        ('positive = "abc"\nnegative = ["b"]', PromptError, "positive is 'abc': Input should be a valid list"),
        ('positive = [3]\nnegative = ["b"]', PromptError, "positive 1: text"),
        ('positive = ["a", 2024-01-01]\nnegative = ["b"]', PromptError, "positive 2: text"),
        ('positive = ["a"]\nnegative = ["b"]\nmargin = "best"', PromptError, "margin is 'best'"),
        ('positive = ["a"]\nnegative = ["b"]\nrate_on = "both"', PromptError, "rate_on is 'both'"),
        ('positive = ["a"]\nnegative = ["b"]\nname = 3', PromptError, "name is 3"),
        ("file = 3", PromptError, "file is 3"),
        ('file = "gone.jsonl"', FileError, "gone.jsonl is not beside it"),
        ('title = "no prompts"', FileError, "mine.jsonl is not beside it"),
        ("positive = [", FileError, "can't be read as TOML"),
    ],
)
def test_a_bad_table_is_reported(tmp_path, content, kind, said):
    with pytest.raises(kind, match=said):
        read_pair_file(write(tmp_path, "mine.toml", content))


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv", "mine.toml"])
def test_a_file_that_is_not_utf8_is_refused(tmp_path, name):
    with pytest.raises(FileError, match=r"UTF-8|utf-8"):
        read_pair_file(write(tmp_path, name, "positive,negative\nÉté?,b\n".encode("latin-1")))


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv", "mine.toml"])
def test_a_folder_or_nothing_is_refused(tmp_path, name):
    with pytest.raises(FileError, match="can't be read"):
        read_pair_file(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(FileError, match="can't be read"):
        read_pair_file(tmp_path / name)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"ends in '\.xlsx'.*\.jsonl, \.csv or \.toml"):
        read_pair_file(write(tmp_path, "mine.xlsx", ""))


@pytest.mark.parametrize("content", ["", "\n\n", "  \n"])
def test_an_empty_file_is_refused_by_name(tmp_path, content):
    with pytest.raises(PromptError, match=r"mine\.jsonl holds no prompts"):
        read_pair_file(write(tmp_path, "mine.jsonl", content))


@pytest.mark.parametrize(("given_side", "missing"), [("positive", "negative"), ("negative", "positive")])
def test_a_one_sided_file_is_refused(tmp_path, given_side, missing):
    rows = [{given_side: "a"}, {"text": "b", "label": given_side}]
    with pytest.raises(PromptError, match=f"The {missing} side has no prompts"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))


def test_a_one_sided_split_is_refused_by_name(tmp_path):
    rows = [{**GOOD, "split": "test"}, {"positive": "alone", "split": "development"}]
    with pytest.raises(PromptError, match="In the development split: The negative side has no prompts"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))


def test_a_split_on_some_lines_only_is_refused(tmp_path):
    rows = [{**GOOD, "split": "test"}, {"positive": "a", "negative": "b"}]
    with pytest.raises(PromptError, match=r"mine\.jsonl, line 2 names no split, others do"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))


@pytest.mark.parametrize("copy", ["Bad?", "  BAD? "])
@pytest.mark.parametrize("split", [{}, {"split": "test"}])
def test_a_copy_is_refused_with_both_its_places(tmp_path, copy, split):
    rows = [{**GOOD, **split}, {"positive": copy, "negative": "other", **split}]
    with pytest.raises(PromptError, match=r"line 2 repeats the positive prompt of mine\.jsonl, line 1: bad\?"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))


@pytest.mark.parametrize("copy", ["Bad?", "  BAD? "])
def test_a_copy_in_another_split_is_overlap(tmp_path, copy):
    rows = [{**GOOD, "split": "test"}, {"positive": copy, "negative": "other", "split": "discovery"}]
    with pytest.raises(OverlapError, match=r"in both discovery and test, such as 'bad\?'"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))


@pytest.mark.parametrize("copy", ["Bad?", "  BAD? "])
@pytest.mark.parametrize("split", [{}, {"split": "test"}])
def test_a_prompt_on_both_sides_is_overlap(tmp_path, copy, split):
    rows = [{**GOOD, **split}, {"positive": "other", "negative": copy, **split}]
    with pytest.raises(OverlapError, match=r"on both sides, such as 'bad\?'"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*rows)))
