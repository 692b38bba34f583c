"""Which model types answer a prompt in a batch as they answer it alone: docs/results/answers_alone.json.

Tiny random models of every causal type and some image-and-text wrappers; four prompts that begin alike, of different
length. Each type: in a padded batch, from keys and values that were computed before, as `generate` does it today, and
whether a server takes it.

Run: python -m scripts.answers_alone
"""

from __future__ import annotations

import json
from collections import Counter
from unittest.mock import patch

from benchmarks.drivers import ROOT
from tests.zoo import causal_types, zoo_subject

from neurodial.errors import NeurodialError
from neurodial.files import write_atomic
from neurodial.generation import generate as generating
from neurodial.generation.as_alone import AsAlone, as_alone
from neurodial.generation.decoding import Decoding
from neurodial.model.subject import Subject
from neurodial.provenance import versions
from neurodial.serve.batch import refuse_other_answers

REPORT = ROOT / "docs" / "results" / "answers_alone.json"
BEGINNING = "A beginning that all of them share: "
PROMPTS = [BEGINNING + end for end in ("of a cat?", "what of the second dog?", "bears?", "of a very old horse?")]
WRAPPERS = ("gemma3", "qwen2_vl", "qwen2_5_vl", "llava", "mistral3", "paligemma", "smolvlm", "idefics3", "internvl")


def answers(subject: Subject, prompts: list[str], given: AsAlone | None = None) -> list[tuple[int, ...]]:
    """Answers of 8 tokens; `given` stands for what is measured of the model."""
    with patch.object(generating, "as_alone", as_alone if given is None else lambda _: given):
        found = generating.generate(subject, prompts, decoding=Decoding(max_new_tokens=8))
    return [answer.tokens for answer in found]


def row_of(subject: Subject) -> dict[str, str]:
    """What becomes of one type."""
    alone = [answers(subject, [prompt])[0] for prompt in PROMPTS]
    ways: dict[str, AsAlone | None] = {
        "padded": AsAlone(padded=True, cached=False),
        "cached": AsAlone(padded=True, cached=True),
        "today": None,
    }
    row = {}
    for way, given in ways.items():
        try:
            row[way] = "same" if answers(subject, PROMPTS, given) == alone else "differs"
        except Exception as error:  # noqa: BLE001  # whatever the model raises where it is forced
            row[way] = f"fails: {type(error).__name__}"
    try:
        refuse_other_answers(subject)
        row["served"] = "taken"
    except NeurodialError as error:
        row["served"] = "padding shows" if "would depend" in str(error) else "no pass from keys and values"
    return row


def main() -> None:
    """Measure and write."""
    rows: dict[str, dict[str, str]] = {}
    for name, images in [*((name, False) for name in causal_types()), *((name, True) for name in WRAPPERS)]:
        try:
            rows[name] = row_of(zoo_subject(name, images=images))
        except Exception as error:  # noqa: BLE001  # types that the zoo makes no model of, or that have no layout
            rows[name] = {"not tried": type(error).__name__}
    counts = {
        way: Counter(row[way] for row in rows.values() if way in row) for way in ("padded", "cached", "today", "served")
    }
    report = {"command": "python -m scripts.answers_alone", "versions": versions(), "counts": counts, "rows": rows}
    write_atomic(REPORT, json.dumps(report, indent=1) + "\n", overwrite=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
