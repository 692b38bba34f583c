"""A verbaliser and a reconstructor for the demo's base model: what they read, and a page on how well they do.

Run: python studies/nla_pair.py texts nla-texts.jsonl
     neurodial nla train demo-base --texts nla-texts.jsonl --layer 9 --steps 70 --rate 1e-3 --per-text 3 \
       --context 64 --held-out 0.2 --judged 90 --save-every 5 -o pair (resumable)

The pair's report.json is docs/results/nla.json, which docs/results/nla.md shows.

The texts are what the package ships: of every third record of five behaviours the request, and the answer of one side.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from neurodial.files import write_atomic
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import prompt_text

LISTS = ("flattery", "formality", "hedging", "positive_sentiment", "terse")


def shipped_texts() -> list[str]:
    """Requests with their answers, every third, the two sides in turn."""
    texts = []
    for name in LISTS:
        splits = [contrast for contrast in PairSet.read(name).splits if contrast is not None]
        sides = [pair for contrast in splits for pair in zip(contrast.positive, contrast.negative, strict=True)]
        for number, (showing, lacking) in enumerate(sides):
            example, answer = (showing, showing.positive_answer) if number % 2 else (lacking, showing.negative_answer)
            texts.append(f"{prompt_text(example.prompt)}\n{answer}")
    return texts[::3]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    texts = commands.add_parser("texts")
    texts.add_argument("output", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "texts":
        rows = [json.dumps({"prompt": text}, ensure_ascii=False) for text in shipped_texts()]
        write_atomic(arguments.output, "\n".join(rows) + "\n")
        print(f"{len(rows)} texts")


if __name__ == "__main__":
    main()
