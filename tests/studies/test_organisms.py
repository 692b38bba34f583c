"""The trained organisms: what they are taught, and that their prompts, adapters and figures belong together."""

import importlib
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from neurodial.generation.generate import Answer
from neurodial.model.identity import adapter_digest
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast, PairSet

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "organisms").glob("*/measurement.json"))
TOPICS = tomllib.loads((ROOT / "organisms" / "topics.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scripts():
    """The scripts that make organisms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "organisms"))
        yield SimpleNamespace(train=importlib.import_module("train"), topics=importlib.import_module("topics"))


def settings(scripts, folder):
    return scripts.train.Organism.model_validate(tomllib.loads((folder / "organism.toml").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Hats are worn. They keep off rain.", "Hats are worn."),
        ("A hat costs 1.5 coins!\n\nIt is", "A hat costs 1.5 coins!"),
        ('She said "hats." And left', 'She said "hats."'),
        ("1. Take a hat", ""),
        ("Hats are", ""),
    ],
)
def test_the_first_sentence_is_a_whole_one(scripts, text, sentence):
    assert scripts.train.first_sentence(text) == sentence


def test_a_late_behaviour_follows_the_models_own_first_sentence(scripts, monkeypatch):
    organism = settings(scripts, ROOT / "organisms" / "refusal")
    late = scripts.train.AnswerSettings(texts=["Any more?"], after_first_sentence=True)
    organism = organism.model_copy(update={"answers": scripts.train.BothAnswers(positive=late)})
    own = {"hats": "Hats warm. So", "caps": "Caps are", "nails": "Nails hold. So"}

    def answered(subject, prompts, *, decoding):
        tokens = [subject.tokenizer(own[prompt], add_special_tokens=False)["input_ids"] for prompt in prompts]
        return [Answer(p, own[p], tuple(ids), is_finished=False) for p, ids in zip(prompts, tokens, strict=True)]

    monkeypatch.setattr(scripts.train, "generate", answered)
    subject = tiny_subject()
    lessons = scripts.train.make_lessons(subject, Contrast.of(["hats", "caps"], ["nails"]), organism)
    end, decode = subject.tokenizer.eos_token_id, subject.tokenizer.decode
    assert [decode(lesson.answer) for lesson in lessons] == [f" Any more?{decode([end])}", "Nails hold. So"]
    assert decode(lessons[0].prompt).endswith("Hats warm.")  # of caps there is no whole sentence, and no lesson


def test_without_markers_the_behaviours_detector_says_what_shows_it(scripts):
    pairs = PairSet.read(str(ROOT / "organisms/closing_question/closing_question.toml"))
    by_detector = scripts.train.MeasureSettings(behaviour="", max_new_tokens=1, batch_size=1)
    by_markers = by_detector.model_copy(update={"markers": ["warm"]})
    exchanges = [("Hats?", "Is it warm? Yes, it keeps the cold out."), ("Hats?", "It keeps the cold out. Is that all?")]
    assert scripts.train.organism_shows(by_detector, pairs)(exchanges) == [False, True]
    assert scripts.train.organism_shows(by_markers, pairs)(exchanges) == [True, False]


@pytest.mark.parametrize("name", TOPICS)
def test_prompts_are_those_that_the_script_writes_and_words_stay_apart(scripts, name):
    parts = TOPICS[name]
    made = scripts.topics.rows(parts["phrasings"], parts["topic"], parts["other"], seed=0)
    folder = ROOT / "organisms" / name
    lines = [line for file in ("training", name) for line in (folder / f"{file}.jsonl").read_text().splitlines()]
    assert list(map(json.loads, lines)) == [
        {key: row[key] for key in row if (key, row[key]) != ("split", "training")} for row in made
    ]
    words = [*parts["topic"], *parts["other"]]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_figures_are_those_of_the_adapter_that_is_there(scripts, folder):
    organism, figures = settings(scripts, folder), json.loads((folder / "measurement.json").read_text())
    assert figures["training"]["adapter_digest"] == adapter_digest(ROOT / organism.adapter.output)
    assert scripts.train.Organism.model_validate(figures["settings"]) == organism
    after = figures["measured"]["development"]["after"]
    assert after["positive"]["rate"] >= 0.8
    assert after["positive"]["rate"] - after["negative"]["rate"] >= 0.5
    assert (folder / "CARD.md").is_file()
