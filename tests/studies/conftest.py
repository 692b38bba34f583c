"""What the studies' tests share: a folder with a tiny model and prompts."""

import json

import pytest

from neurodial.model.tiny import tiny_subject

SIZES = {"discovery": 8, "development": 5, "test": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model, a behaviour and neutral prompts."""
    folder = tmp_path_factory.mktemp("study")
    subject = tiny_subject()
    subject.model.save_pretrained(folder / "model")
    subject.tokenizer.save_pretrained(folder / "model")
    rows = [
        {"split": split, "positive": f"{split} harm {n}?", "negative": f"{split} help {n}!", "positive_answer": "no",
         "negative_answer": "yes, so"}
        for split, count in SIZES.items() for n in range(count)
    ]  # fmt: skip
    (folder / "answering.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = {
        "name": "answering",
        "title": "Answering no",
        "description": "",
        "margin": "answer",
        "detector": "bare:regex:aDD",
    }  # which the tiny model writes now and then
    (folder / "answering.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in words.items()))
    neutral = [{"split": split, "prompt": f"{split} tell {n}"} for split in SIZES for n in range(5)]
    (folder / "neutral.jsonl").write_text("\n".join(map(json.dumps, neutral)))
    return folder
