"""What a request asks for, circuits at dials: read, named, salted, and given a slot. The standard library alone.

A request carries `{"neurodial": "refusal@0.5"}` in its `extra_args` (`vllm_xargs` over HTTP), several circuits joined
by commas or as a list. Its setting is the same in one form: names in order, dials that are not 0. Doses of several
circuits on one neuron add.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neurodial.engines.vllm_exports import ServedExport, split

KEY = "neurodial"
DESCRIBED = "neurodial_bank_described"
"""The method of a worker that says what it has."""
SLOTS = "NEURODIAL_VLLM_SLOTS"
_DEFAULT_SLOTS = 32
_SALT = "neurodial:"


@dataclass(frozen=True)
class ServedCircuits:
    """The circuits that requests may name.

    Attributes:
        exports: by their names.
        limit: the largest dial, without its sign.
        slots: how many settings may be in use at once.
    """

    exports: Mapping[str, ServedExport]
    limit: float
    slots: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and doses."""
        parts = sorted(f"{name} {served.digest}" for name, served in self.exports.items())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def setting(self, asked: Any) -> str:
        """What a request asks for, in one form; empty for the unsteered model.

        Raises:
            ValueError: a circuit is not known or stands twice, or a dial is none.

        Example:
            >>> from pathlib import Path
            >>> served = ServedExport("refusal", Path("exports/refusal"), 1.0, 0, "0" * 64, ("demo",))
            >>> circuits = ServedCircuits({"refusal": served}, 8.0, 32)
            >>> circuits.setting("refusal"), circuits.setting(["refusal@.50"]), circuits.setting("refusal@0")
            ('refusal@1.0', 'refusal@0.5', '')
            >>> circuits.setting("other")
            Traceback (most recent call last):
            ValueError: No circuit is called 'other' here: refusal. Ask for NAME or NAME@DIAL, several joined by commas.
        """
        texts = asked.split(",") if isinstance(asked, str) else asked
        dials: dict[str, float] = {}
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise self._unknown(asked)
        for text in texts:
            found = split(text.strip(), self.exports, self.limit)
            if found is None:
                raise self._unknown(text)
            served, dial = found
            if served.name in dials:
                raise ValueError(f"{served.name!r} stands twice in {asked!r}: give each circuit one dial.")
            dials[served.name] = dial
        if not dials:
            raise self._unknown(asked)
        return ",".join(f"{name}@{dial}" for name, dial in sorted(dials.items()) if dial)

    def _unknown(self, asked: Any) -> ValueError:
        known = ", ".join(self.exports)
        shown = repr(asked)[:120]
        return ValueError(
            f"No circuit is called {shown} here: {known}. Ask for NAME or NAME@DIAL, several joined by commas."
        )

    def salt(self, setting: str, given: str | None) -> str | None:
        """The `cache_salt` of a request: what was computed under another setting is never read from the cache.

        Args:
            setting: the request's.
            given: the salt that the request itself names.

        Raises:
            ValueError: that looks like one of ours.
        """
        if given is not None and given.startswith(_SALT):
            raise ValueError(f"A cache_salt that begins with {_SALT!r} is kept for circuits: choose another.")
        if not setting:
            return given
        return self._salt(setting) + (f":{given}" if given else "")

    def is_salted(self, setting: str, salt: str | None) -> bool:
        """Whether a salt is that of the setting; a setting holds no colon, so none is the beginning of another."""
        own = self._salt(setting)
        return salt is not None and (salt == own or salt.startswith(f"{own}:"))

    def _salt(self, setting: str) -> str:
        return f"{_SALT}{self.digest[:16]}:{setting}"


def dials_of(setting: str) -> dict[str, float]:
    """The dial of each circuit of a setting.

    Example:
        >>> dials_of("formality@-1.0,refusal@0.5"), dials_of("")
        ({'formality': -1.0, 'refusal': 0.5}, {})
    """
    pairs = (part.rpartition("@") for part in setting.split(",") if part)
    return {name: float(dial) for name, _, dial in pairs}


def read_slots(environment: Mapping[str, str]) -> int:
    """How many settings may be in use at once.

    Raises:
        ValueError: it is not a whole number between 1 and 4096.
    """
    text = environment.get(SLOTS, "") or str(_DEFAULT_SLOTS)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 4096:
        raise ValueError(f"{SLOTS} is {text!r}. Wanted: a whole number from 1 to 4096.")
    return int(text)


class BankRows:
    """Which row of the banks holds which setting. Row 0 is the unsteered model's and is never given away.

    Args:
        slots: how many rows there are beside it.

    Example:
        >>> table = BankRows(2)
        >>> table.assign({"a@1.0", ""}), table.assign({"b@1.0"}), table.assign({"c@1.0"})
        (['a@1.0'], ['b@1.0'], ['c@1.0'])
        >>> table.of("b@1.0"), table.of("c@1.0"), table.of("")
        (2, 1, 0)
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._held: dict[str, int] = {}  # those used last stand last

    def of(self, setting: str) -> int:
        """The row of a setting that has one."""
        return self._held[setting] if setting else 0

    def assign(self, wanted: Collection[str]) -> list[str]:
        """Give each setting of a step a row; the ones that are longest out of use lose theirs.

        Returns:
            The settings whose rows have to be written.

        Raises:
            RuntimeError: there are more than rows.
        """
        steered = sorted({setting for setting in wanted if setting})
        if len(steered) > self._slots:
            raise RuntimeError(full(self._slots))
        for setting in steered:  # first, so that none of them loses its row to another
            if setting in self._held:
                self._held[setting] = self._held.pop(setting)
        new = [setting for setting in steered if setting not in self._held]
        for setting in new:
            is_free = len(self._held) < self._slots
            self._held[setting] = len(self._held) + 1 if is_free else self._held.pop(next(iter(self._held)))
        return new


def full(slots: int) -> str:
    """What is said where more settings are in use than there are rows."""
    return (
        f"{slots} settings of circuits and dials are in use, and there is room for no other. Wait until some of them "
        f"are done, or start vLLM with a larger {SLOTS}: as large as --max-num-seqs, it never fills up."
    )


class Admission:
    """Which settings the unfinished requests of one front end have, so that a table is never overfull.

    Args:
        slots: how many rows there are.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._setting_of: dict[str, str] = {}
        self._admitted: set[str] = set()

    def admit(self, request: str, setting: str, unfinished: Collection[str]) -> None:
        """Let a request in.

        Args:
            request: its id.
            setting: its setting, not empty.
            unfinished: ids of all requests that are not done.

        Raises:
            ValueError: the table is full.

        Example:
            >>> door = Admission(1)
            >>> door.admit("1", "a@1.0", [])
            >>> door.admit("2", "b@1.0", ["1"])
            Traceback (most recent call last):
            ValueError: 1 settings of circuits and dials are in use, and there is room for no other. Wait until ...
        """
        if setting not in self._admitted and len(self._admitted) >= self._slots:
            self._setting_of = {name: of for name, of in self._setting_of.items() if name in unfinished}
            self._admitted = set(self._setting_of.values())
            if setting not in self._admitted and len(self._admitted) >= self._slots:
                raise ValueError(full(self._slots))
        self._setting_of[request] = setting
        self._admitted.add(setting)


def check_parts(described: Sequence[Mapping[str, Any]], wanted: Mapping[str, Sequence[int]]) -> str:
    """What is wrong with what all processes have; empty where nothing is.

    Args:
        described: by each process.
        wanted: the shape of each layer that a circuit touches: (neuron,), or (expert, neuron).

    Example:
        >>> parts = [{"trouble": "", "parts": {"0": {"start": n, "stop": n + 12, "experts": None}}} for n in (0, 12)]
        >>> check_parts(parts, {"0": [24]}), check_parts(parts[1:], {"0": [24]})
        ('', "of the 24 neurons of layer 0 vLLM's processes have 12 to 24: is it the circuit's model?")
    """
    troubles = [each["trouble"] for each in described if each["trouble"]]
    if troubles:
        return str(troubles[0])
    for name, shape in wanted.items():
        found = [each["parts"][name] for each in described if name in each["parts"]]
        for expert in range(shape[0]) if len(shape) == 2 else (None,):
            mine = [part for part in found if expert is None or expert in part["experts"]]
            parts = sorted({(part["start"], part["stop"]) for part in mine})
            starts, stops = [0, *(stop for _, stop in parts)], [*(start for start, _ in parts), shape[-1]]
            if starts != stops:
                of = f"layer {name}" if expert is None else f"expert {expert} of layer {name}"
                shown = ", ".join(f"{start} to {stop}" for start, stop in parts) or "none"
                return f"of the {shape[-1]} neurons of {of} vLLM's processes have {shown}: is it the circuit's model?"
    return ""
