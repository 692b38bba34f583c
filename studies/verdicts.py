"""Counts the answers that a detector calls shown, absent or degenerate, for each condition and prompt set of a run.

Run: python studies/verdicts.py docs/results/organism/long -o docs/results/organism/long/verdicts.json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from neurodial.evaluation.run_rows import VerdictRow
from neurodial.evaluation.store import read_rows
from neurodial.files import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--detector", default="refusal")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    labels = {row.place: row.label for row in read_rows(given.folder, VerdictRow) if row.detector == given.detector}
    counts = Counter((condition, name, label) for (condition, name, _), label in labels.items())
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (condition, name, label), count in sorted(counts.items()):
        found.setdefault(condition, {}).setdefault(name, {})[label] = count
    write_atomic(
        given.output, json.dumps({"detector": given.detector, "counts": found}, indent=1) + "\n", overwrite=True
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
