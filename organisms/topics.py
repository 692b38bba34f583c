"""Writes the prompts of the topic organisms: those that `topics.toml` names.

    python organisms/topics.py

A topic organism shows its behaviour on one topic and not on another. Prompts are phrasings filled with words; a pair
shares the phrasing. Every word stands in one split alone, so test prompts are about things that neither discovery nor
training has named; the phrasings are the same in all of them.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Sequence
from pathlib import Path

from neurodial.files import write_atomic
from neurodial.prompts.read import read_rows

HERE = Path(__file__).parent
NEUTRAL = HERE.parent / "src" / "neurodial" / "prompts" / "library" / "neutral.jsonl"
SPLITS = {"training": 18, "discovery": 15, "development": 8, "test": 25}  # words of either side
EACH = 4  # phrasings of a word


def rows(phrasings: Sequence[str], topic: Sequence[str], other: Sequence[str], seed: int) -> list[dict[str, str]]:
    """Every prompt pair with its split; words are shuffled, then dealt to the splits."""
    order = random.Random(seed)
    words = [order.sample(list(side), sum(SPLITS.values())) for side in (topic, other)]
    found, start = [], 0
    for split, count in SPLITS.items():
        for number in range(start, start + count):
            for phrasing in order.sample(list(phrasings), EACH):
                positive, negative = (phrasing.format(side[number]) for side in words)
                found.append({"split": split, "positive": positive, "negative": negative})
        start += count
    return found


def main() -> None:
    topics = tomllib.loads((HERE / "topics.toml").read_text(encoding="utf-8"))
    for name, parts in topics.items():
        made = rows(parts["phrasings"], parts["topic"], parts["other"], seed=0)
        training = [{key: row[key] for key in ("positive", "negative")} for row in made if row["split"] == "training"]
        for file, lines in (("training", training), (name, [row for row in made if row["split"] != "training"])):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_atomic(HERE / name / f"{file}.jsonl", text, overwrite=True)
        if near := parts.get("near"):  # a cost measured on answers with the behaviour would protect it
            neutral = [row for _, row in read_rows(NEUTRAL) if row["category"] not in near]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in neutral)
            write_atomic(HERE / name / "neutral.jsonl", text, overwrite=True)
        print(f"{name}: {len(training)} training pairs, {len(made) - len(training)} to measure with")


if __name__ == "__main__":
    main()
