"""Behaviours by name or by path, lists of prompts, and every data set that ships with the package."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from neurodial.errors import FileError, NeurodialError, OverlapError, PromptError, UnknownNameError
from neurodial.prompts import behaviours
from neurodial.prompts.behaviours import (
    behaviour_names,
    describe_behaviour,
    read_pairs,
    read_prompt_list,
    read_texts,
)
from neurodial.prompts.pairs import SPLITS, PairSet, refuse_overlap
from neurodial.prompts.prompt import Prompt, prompt_key, prompt_text
from neurodial.prompts.read import read_rows

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "src" / "neurodial" / "prompts" / "library"
TRAINING = ROOT / "organisms" / "refusal" / "training.jsonl"
LISTS = ("diverse", "neutral", "over_refusal")
BEHAVIOURS = behaviour_names()
shipped, shipped_list = cache(read_pairs), cache(read_prompt_list)


def prompts_of(contrast) -> list[Prompt]:
    return [example.prompt for side in (contrast.positive, contrast.negative) for example in side]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------- by name or by path


def test_shipped_behaviours_are_listed():
    assert {"refusal", "french", "formality", "positive_sentiment", "hedging", "flattery", "terse"} <= set(BEHAVIOURS)
    assert sorted(BEHAVIOURS) == BEHAVIOURS
    assert not set(BEHAVIOURS) & set(LISTS)


@pytest.mark.parametrize(("typed", "offered"), [("refusel", "refusal"), ("franch", "french"), ("Terse", "terse")])
def test_an_unknown_behaviour_offers_near_names(typed, offered):
    with pytest.raises(UnknownNameError, match=rf"no behaviour '{typed}'.*Did you mean {offered}") as caught:
        read_pairs(typed)
    assert all(name in str(caught.value) for name in BEHAVIOURS)


def test_a_list_is_no_behaviour():
    with pytest.raises(UnknownNameError, match="no behaviour 'neutral'"):
        read_pairs("neutral")


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.csv", "gone.toml", "folder/gone.jsonl"])
def test_a_path_that_is_not_there_is_a_missing_file_not_an_unknown_name(name):
    with pytest.raises(FileError, match=f"no file {name}"):
        read_pairs(name)


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.md", "pairs"])
def test_a_file_of_another_ending_is_refused_with_those_that_work(tmp_path, name):
    with pytest.raises(UnknownNameError, match=r"\.jsonl, \.csv or \.toml file\. It looks like contrasted prompts"):
        read_pairs(str(write(tmp_path / name, {"positive": "a", "negative": "b"})))


def test_the_users_own_file_works_wherever_a_name_does(tmp_path):
    """A copy of a shipped set is the same set: same prompts, same behaviour, same hash."""
    for ending in (".jsonl", ".toml"):
        (tmp_path / f"terse{ending}").write_bytes((LIBRARY / f"terse{ending}").read_bytes())
    shipped, own = PairSet.read("terse"), PairSet.read(str(tmp_path / "terse.toml"))
    assert own == shipped
    assert own.hash == shipped.hash
    assert PairSet.read(str(tmp_path / "terse.jsonl")).hash == shipped.hash


def test_a_description_needs_no_prompts(monkeypatch):
    monkeypatch.setattr(behaviours, "read_pair_file", None)
    title, description = describe_behaviour("refusal")
    assert title.startswith("Refusal")
    assert len(description) > 40


# ------------------------------------------------------------------------------------------- lists of prompts


def test_a_list_by_name():
    neutral = read_prompt_list("neutral")
    assert neutral.name == "neutral"
    assert len(neutral.prompts) == sum(len(neutral.split(split)) for split in SPLITS)


def test_the_users_own_list(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("\ufeffWhy is it?\r\n\r\n  Two words\u2028on one line  \n", encoding="utf-8")
    found = read_prompt_list(str(text))
    assert found.name == "mine"
    assert found.prompts == ("Why is it?", "Two words\u2028on one line")
    rows = write(tmp_path / "mine.jsonl", {"prompt": "Why is it?"}, {"prompt": "Two words\u2028on one line"})
    assert read_prompt_list(str(rows)).hash == found.hash
    assert read_texts(rows) == read_texts(text) == list(found.prompts)


def test_the_hash_of_a_list_depends_on_its_prompts_and_not_on_their_order(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    first, second, third = (
        read_prompt_list(str(write(tmp_path / f"{name}.jsonl", *chosen))).hash
        for name, chosen in [("x", rows), ("y", rows[::-1]), ("z", rows[:1])]
    )
    assert first == second != third


def test_an_unknown_list_offers_near_names():
    with pytest.raises(UnknownNameError, match=r"no prompt list 'nutral'.*Did you mean neutral"):
        read_prompt_list("nutral")


def test_a_split_that_a_list_lacks_is_an_error():
    with pytest.raises(PromptError, match="'diverse' has no test prompts"):
        read_prompt_list("diverse").split("test")


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        ([], PromptError, "holds no prompts"),
        ([{"prompt": "a"}, {"text": "b"}], PromptError, r"mine\.jsonl, line 2 holds no prompt"),
        ([{"prompt": " "}], PromptError, "line 1 holds no prompt"),
        ([{"prompt": ["a"]}], PromptError, "line 1 holds no prompt"),
        ([{"prompt": "a", "split": "train"}], PromptError, "line 1 has split 'train'"),
        ([{"prompt": "a"}, {"prompt": "A "}], PromptError, "'a' is listed 2 times"),
        ([{"prompt": "a", "split": "test"}, {"prompt": "A"}], OverlapError, "such as 'a'"),
        (
            [{"prompt": "a", "split": "test"}, {"prompt": "A", "split": "development"}],
            OverlapError,
            "both test and development",
        ),
    ],
)
def test_a_bad_list_is_refused(tmp_path, rows, kind, said):
    with pytest.raises(kind, match=said):
        read_prompt_list(str(write(tmp_path / "mine.jsonl", *rows)))


def test_a_list_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(FileError, match="can't be read"):
        read_prompt_list(str(tmp_path / "mine.txt"))
    with pytest.raises(NeurodialError, match="no prompt list"):
        read_prompt_list(str(tmp_path))


# ------------------------------------------------------------------------------------------- what ships


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_shipped_behaviour_is_large_enough_and_in_three_splits(name):
    pairs = shipped(name)
    sizes = [(len(pairs.split(split).positive), len(pairs.split(split).negative)) for split in SPLITS]
    assert all(positive == negative for positive, negative in sizes)
    assert sum(positive for positive, _ in sizes) >= 60
    assert min(positive for positive, _ in sizes) >= 20


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_shipped_behaviour_says_all_about_itself(name):
    behaviour = shipped(name).behaviour
    assert behaviour.name == name
    assert behaviour.title
    assert len(behaviour.description) > 60
    assert re.fullmatch(r"[a-z_]+(:[a-z]+)?", behaviour.detector)
    assert behaviour.licence == "Apache-2.0"


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_margin_on_answers_has_answers_to_compare(name):
    pairs = shipped(name)
    examples = [e for split in SPLITS for e in (*pairs.split(split).positive, *pairs.split(split).negative)]
    answered = [bool(e.positive_answer and e.negative_answer) for e in examples]
    if pairs.behaviour.margin == "answer":
        assert all(answered)
    assert all(e.positive_answer != e.negative_answer for e in examples if e.positive_answer)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_sides_of_a_shipped_behaviour_match(name):
    """Length must not tell the sides apart, and each pair shares its category."""
    pairs = shipped(name)
    for split in SPLITS:
        contrast = pairs.split(split)
        lengths = [
            [len(prompt_text(e.prompt).split()) for e in side] for side in (contrast.positive, contrast.negative)
        ]
        means = [sum(side) / len(side) for side in lengths]
        assert abs(means[0] - means[1]) < 0.15 * max(means)
        assert [e.category for e in contrast.positive] == [e.category for e in contrast.negative]


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_category_of_a_shipped_behaviour_is_in_every_split(name):
    pairs = shipped(name)
    found = {split: {example.category for example in pairs.split(split).positive} for split in SPLITS}
    assert "" not in found["discovery"]
    assert len(found["discovery"]) >= 5
    assert found["discovery"] == found["development"] == found["test"]


@pytest.mark.parametrize("name", [*BEHAVIOURS, *LISTS])
def test_a_shipped_file_holds_nothing_unread(name):
    """A misspelt field would be passed over in silence."""
    known = {"split", "category", "prompt", "positive", "negative", "positive_answer", "negative_answer"}
    rows = [row for _, row in read_rows(LIBRARY / f"{name}.jsonl")]
    assert {field for row in rows for field in row} <= known
    assert all(value == value.strip() and value for row in rows for value in row.values())


@pytest.mark.parametrize(("name", "least"), [("diverse", 100), ("neutral", 150), ("over_refusal", 100)])
def test_a_shipped_list_is_large_enough_and_varied(name, least):
    prompts = shipped_list(name).prompts
    assert len(prompts) >= least
    assert max(Counter(map(prompt_key, prompts)).values()) == 1
    categories = Counter(row["category"] for _, row in read_rows(LIBRARY / f"{name}.jsonl"))
    assert len(categories) >= 10
    assert max(categories.values()) <= 0.25 * len(prompts)


def test_what_is_measured_was_never_seen_before():
    """Across sets, too: no test prompt of refusal or over-refusal is trained on, tuned on or found with."""
    refusal = shipped("refusal")
    training = [row[side] for _, row in read_rows(TRAINING) for side in ("positive", "negative")]
    over, neutral = shipped_list("over_refusal"), shipped_list("neutral")
    refuse_overlap(
        {
            "training": training,
            **{f"refusal {split}": prompts_of(refusal.split(split)) for split in SPLITS},
            **{f"over_refusal {split}": list(over.split(split)) for split in ("development", "test")},
            **{f"neutral {split}": list(neutral.split(split)) for split in SPLITS},
            "diverse": list(shipped_list("diverse").prompts),
        }
    )


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_no_prompt_of_a_behaviour_is_a_neutral_or_diverse_one(name):
    pairs = shipped(name)
    refuse_overlap(
        {
            name: [prompt for split in SPLITS for prompt in prompts_of(pairs.split(split))],
            "neutral": list(shipped_list("neutral").prompts),
            "diverse": list(shipped_list("diverse").prompts),
        }
    )


def test_the_organism_is_trained_on_matched_requests():
    rows = [row for _, row in read_rows(TRAINING)]
    assert len(rows) >= 100
    assert all(set(row) == {"category", "positive", "negative"} for row in rows)
    prompts = [prompt_key(row[side]) for row in rows for side in ("positive", "negative")]
    assert len(set(prompts)) == len(prompts)
    assert {row["category"] for row in rows} == {example.category for example in shipped("refusal").discovery.positive}


def test_every_shipped_file_belongs_to_a_set():
    names = {path.stem for path in LIBRARY.iterdir()}
    assert names == {*BEHAVIOURS, *LISTS}
    assert all((LIBRARY / f"{name}{ending}").exists() for name in names for ending in (".jsonl", ".toml"))
