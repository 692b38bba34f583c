"""The result of an evaluation as a frozen value, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neurodial.errors import UnknownNameError, near_names
from neurodial.evaluation.intervals import Difference, Estimate

FORMAT = "neurodial.report"
VERSION = 1


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


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two detectors on the same answers."""

    first: str
    second: str
    kappa: float
    n: int


@dataclass(frozen=True)
class Report:
    """Everything an evaluation found.

    Attributes:
        behaviour: what was measured.
        detectors: names and descriptions; the first is the one that headline numbers come from.
        arms: the unsteered model first.
        agreement: of every pair of detectors.
        failed: verdicts that a judge never gave, by detector.
        settings: every option.
        provenance: model, prompts, versions, time.
        notes: what a reader must know: a control that failed, a tuning that found nothing within its limit.

    Example:
        >>> Report("refusal", {"refusal": "Our rule."}, ()).headline
        'rate:refusal'
    """

    behaviour: str
    detectors: Mapping[str, str]
    arms: tuple[ConditionResult, ...]
    agreement: tuple[Agreement, ...] = ()
    failed: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """Name of the first detector's rate."""
        return f"rate:{next(iter(self.detectors))}"

    @property
    def unsteered(self) -> ConditionResult:
        """The model as it is."""
        return self.arms[0]

    def arm(self, label: str, dial: float) -> ConditionResult:
        """One arm by its label and dial.

        Raises:
            UnknownNameError: there is none; offers near names.
        """
        for arm in self.arms:
            if arm.label == label and arm.dial == dial:
                return arm
        known = [f"{arm.label} @ {arm.dial:g}" for arm in self.arms]
        raise UnknownNameError(f"There is no {label!r} at dial {dial:g}.", fix=near_names(f"{label} @ {dial:g}", known))

    def methods(self) -> dict[str, list[ConditionResult]]:
        """Arms by label, dials rising, the unsteered model in none of them."""
        found: dict[str, list[ConditionResult]] = {}
        for arm in sorted(self.arms[1:], key=lambda arm: arm.dial):
            found.setdefault(arm.label, []).append(arm)
        return found


def report_json(report: Report) -> str:
    """A report as JSON; numbers that are not finite become null.

    Example:
        >>> text = report_json(Report("refusal", {"refusal": ""}, ()))
        >>> json.loads(text)["format"]
        'neurodial.report'
    """
    value = {"format": FORMAT, "version": VERSION, **_plain(report)}
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
