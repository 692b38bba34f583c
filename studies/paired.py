"""Every method against every other on the same prompts: paired differences of the first detector's rate.

Run: python studies/paired.py docs/results/organism/answers -o docs/results/organism/paired.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

from neurodial.evaluation.intervals import paired_rates
from neurodial.evaluation.results import read_report
from neurodial.evaluation.run_rows import VerdictRow
from neurodial.evaluation.store import read_rows
from neurodial.files import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of an evaluation, with its verdicts.jsonl")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    first = next(iter(read_report(arguments.folder).detectors))
    shown: dict[str, dict[int, bool]] = {}
    for row in read_rows(arguments.folder, VerdictRow):
        if row.detector == first and row.set == "behaviour":
            shown.setdefault(row.condition, {})[row.index] = row.label == "shown"
    found = []
    for one, other in combinations(sorted(shown), 2):
        both = sorted(shown[one].keys() & shown[other].keys())
        difference = paired_rates([shown[one][n] for n in both], [shown[other][n] for n in both])
        found.append({"first": one, "second": other, "second_minus_first": asdict(difference)})
    value = {"detector": first, "folder": str(arguments.folder), "pairs": found}
    write_atomic(arguments.output, json.dumps(value, indent=1) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
