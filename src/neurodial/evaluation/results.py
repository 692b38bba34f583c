"""The result of an evaluation as a frozen value, as JSON, and read back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, UnknownNameError, near_names
from neurodial.evaluation.intervals import Difference, Estimate

FORMAT = "neurodial.report"
VERSION = 1
_WANTED = "a report.json of neurodial evaluate, or its folder"
_FILE_NAMES = {"conditions": "arms"}
"""What a field is called in files, where that is another name."""


@dataclass(frozen=True)
class ConditionResult:
    """One intervention at one dial.

    Attributes:
        method: its kind.
        label: its name.
        dial: 0 for the unsteered model.
        details: what was chosen for it, with raw numbers.
        metrics: numbers with intervals.
        differences: paired, against the unsteered model on the same prompts.
    """

    method: str
    label: str
    dial: float
    details: Mapping[str, Any]
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Difference]

    @property
    def key(self) -> str:
        """What its rows are stored under."""
        return condition_key(self.method, self.label, self.dial)

    @property
    def is_control(self) -> bool:
        """Whether it stands for chance: random neurons or layers, by method or, where a user made them, by name."""
        return self.method.startswith("random") or "random" in self.label.replace("-", " ").split()


def condition_key(method: str, label: str, dial: float) -> str:
    """What the rows of a condition are stored under.

    Example:
        >>> condition_key("circuit", "mine", 0.5), condition_key("unsteered", "unsteered", 0.0)
        ('mine @ 0.5', 'unsteered')
    """
    return label if method == "unsteered" else f"{label} @ {dial:g}"


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two detectors on the same answers."""

    first: str
    second: str
    kappa: float
    n: int


@dataclass(frozen=True)
class PairedComparison:
    """Two conditions on the same prompts: the second's headline number minus the first's.

    Attributes:
        first: key of a condition.
        second: key of another.
        difference: with its interval.
    """

    first: str
    second: str
    difference: Difference


@dataclass(frozen=True)
class Report:
    """Everything an evaluation found.

    Attributes:
        behaviour: what was measured.
        detectors: names and descriptions; the first is the one that headline numbers come from.
        conditions: the unsteered model first.
        agreement: of every pair of detectors.
        failed: verdicts that a judge never gave, by detector.
        settings: every option.
        provenance: model, prompts, versions, time.
        notes: what a reader must know: a control that failed, a tuning that found nothing within its limit.
        comparisons: methods against each other at dial 1; none in files of earlier versions.

    Example:
        >>> Report("refusal", {"refusal": "Our rule."}, ()).headline
        'rate:refusal'
    """

    behaviour: str
    detectors: Mapping[str, str]
    conditions: tuple[ConditionResult, ...]
    agreement: tuple[Agreement, ...] = ()
    failed: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    comparisons: tuple[PairedComparison, ...] = ()

    @property
    def headline(self) -> str:
        """Name of the first detector's rate."""
        return f"rate:{next(iter(self.detectors))}"

    @property
    def unsteered(self) -> ConditionResult:
        """The model as it is."""
        return self.conditions[0]

    def condition(self, label: str, dial: float) -> ConditionResult:
        """One condition by its label and dial.

        Raises:
            UnknownNameError: there is none; offers near names.
        """
        for condition in self.conditions:
            if condition.label == label and condition.dial == dial:
                return condition
        known = [f"{condition.label} @ {condition.dial:g}" for condition in self.conditions]
        raise UnknownNameError(f"There is no {label!r} at dial {dial:g}.", fix=near_names(f"{label} @ {dial:g}", known))

    def methods(self) -> dict[str, list[ConditionResult]]:
        """Conditions by label, dials rising, the unsteered model in none of them."""
        by_label: dict[str, list[ConditionResult]] = {}
        for condition in sorted(self.conditions[1:], key=lambda condition: condition.dial):
            by_label.setdefault(condition.label, []).append(condition)
        return by_label

    def at_full_dial(self) -> tuple[ConditionResult, ...]:
        """Each method once: at dial 1, else at its dial above 0 that is nearest to 1; none that has only dials below 0.

        Dial 1 is what was chosen on other prompts than these; the dial that looks best here was not.
        """
        chosen = []
        for conditions in self.methods().values():
            above = [condition for condition in conditions if condition.dial > 0]
            if above:
                chosen.append(min(above, key=lambda condition: abs(condition.dial - 1)))
        return tuple(chosen)

    def compared(self, first: ConditionResult, second: ConditionResult) -> Difference | None:
        """The paired difference of two conditions' headline numbers, the second minus the first; None: not known."""
        for pair in self.comparisons:
            if (pair.first, pair.second) == (first.key, second.key):
                return pair.difference
            if (pair.first, pair.second) == (second.key, first.key):
                return pair.difference.reversed()
        return None


def report_json(report: Report) -> str:
    """A report as JSON; numbers that are not finite become null.

    Example:
        >>> text = report_json(Report("refusal", {"refusal": ""}, ()))
        >>> json.loads(text)["format"]
        'neurodial.report'
    """
    value = {"format": FORMAT, "version": VERSION, **plain_values(report)}
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def read_report(path: Path | str) -> Report:
    """A report.json, or a folder that holds one, as a value; files of every earlier version too.

    Raises:
        FileError: it can't be read, or is no report.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} can't be read: {error}.", wanted=_WANTED) from error
    return parse_report(value, place=str(path))


def parse_report(value: object, *, place: str) -> Report:
    """A report from the parsed JSON of its file; `place` names it in errors.

    Raises:
        FileError: it is no report, or no whole one.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FileError(f"{place} is no report.", wanted=_WANTED)
    if value.get("version") != VERSION:
        raise FileError(f"{place} is a report of version {value.get('version')}.", wanted=f"version {VERSION}")
    known = {_FILE_NAMES.get(f.name, f.name): f.name for f in dataclasses.fields(Report)}
    fields = {known[name]: _with_nan(item) for name, item in value.items() if name in known}
    try:
        report = TypeAdapter(Report).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FileError(f"{place} is no whole report: {where}: {first['msg']}.", wanted="an unchanged file") from error
    if not report.conditions or not report.detectors:
        raise FileError(f"{place} is no whole report: it has no conditions.", wanted="an unchanged file")
    return report


def _with_nan(value: Any) -> Any:
    """Numbers that were not finite, and so are null in the file, as NaN again."""
    if isinstance(value, Mapping):
        is_estimate = {"value", "low", "high", "n"} <= value.keys()
        numbers = {"kappa"} | ({"value", "low", "high"} if is_estimate else set())
        return {k: math.nan if item is None and k in numbers else _with_nan(item) for k, item in value.items()}
    return [_with_nan(item) for item in value] if isinstance(value, list) else value


def plain_values(value: Any) -> Any:
    """Dataclasses as JSON has them: by their names in files, numbers that are not finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            _FILE_NAMES.get(f.name, f.name): plain_values(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [plain_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
