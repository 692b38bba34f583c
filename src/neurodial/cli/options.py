"""Which prompts, circuits and dials, as options that several commands share. Torch-free, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import CycloptsError, Group, Parameter

from neurodial.cli.declared import every_text
from neurodial.errors import OptionError
from neurodial.intervention.when import When, read_when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurodial.circuit.circuit import Circuit
    from neurodial.prompts.pairs import PairSet

Texts: TypeAlias = Annotated[
    list[str] | None,
    Parameter(converter=every_text, n_tokens=1, negative=(), allow_leading_hyphen=True, metavar="TEXT,..."),
]
"""An option that holds several values: between commas, or the option again for each."""


def joined(texts: list[str] | None, default: str = "") -> str:
    """The values of such an option in one text, between commas; the default where there are none.

    Example:
        >>> joined(["-1,0", "2"]), joined(None, "1")
        ('-1,0,2', '1')
    """
    return default if texts is None else ",".join(texts)


ACTING = Group("When circuits act", sort_key=20)


@Parameter(name="*")
@dataclass(frozen=True)
class TwoLists:
    """A behaviour as two files of prompts, instead of --behaviour.

    Attributes:
        positive: file of prompts that show the behaviour, one a line, or rows with `prompt`; goes with --negative.
        negative: file of prompts that show its opposite.
    """

    positive: Path | None = None
    negative: Path | None = None

    def pairs(self, behaviour: str | None, found_with: Sequence[Circuit] = ()) -> PairSet:
        """The prompt set: by name or file, as two files, or else that of the circuits.

        Raises:
            CycloptsError: no set is named, and there are no circuits.
            OptionError: both ways are used, or only one of the two files is given; or the circuits' files name no
                behaviour, several, or one that does not ship.
        """
        from neurodial.prompts.behaviours import read_pairs, read_two_lists

        if self.positive is None and self.negative is None:
            source = behaviour or behaviour_of(found_with)
            if source is None:
                raise CycloptsError(
                    msg="Parameter --behaviour requires an argument: a shipped behaviour or a file; or give two lists "
                    "of prompts, --positive FILE --negative FILE."
                )
            return read_pairs(source)
        if behaviour is not None:
            raise OptionError("Prompts came both by --behaviour and as two lists.", wanted="one of the two")
        if self.positive is None or self.negative is None:
            side, other = ("negative", "positive") if self.positive is None else ("positive", "negative")
            raise OptionError(f"--{side} came without --{other}.", wanted="both: a contrast has two sides")
        return read_two_lists(self.positive, self.negative)


@Parameter(name="*", group=ACTING)
@dataclass(frozen=True, kw_only=True)
class WhichPrompts:
    """On which prompts circuits act.

    Attributes:
        condition: own: where the condition in the circuit's file holds, if it has one (`neurodial condition` makes
            one). none: on every prompt. Or a circuit's file, whose condition is taken for all circuits.
    """

    condition: str = "own"

    def on(self, circuit: Circuit) -> Circuit:
        """The circuit with the condition that was asked for.

        Raises:
            OptionError: the file that was named has no condition.
            FileError: it can't be read.
        """
        from neurodial.circuit.file import read_circuit

        if self.condition == "own":
            return circuit
        if self.condition == "none":
            return replace(circuit, condition=None)
        condition = read_circuit(self.condition).condition
        if condition is None:
            raise OptionError(
                f"{self.condition} has no condition.",
                wanted="own, none, or the file of a circuit that has one",
                fix="Make one: neurodial condition MODEL CIRCUIT -o FILE.",
            )
        return replace(circuit, condition=condition)


@Parameter(name="*", group=ACTING)
@dataclass(frozen=True, kw_only=True)
class WhenOptions(WhichPrompts):
    """When circuits act.

    Attributes:
        when: steer all tokens, only the prompt's, only the generated ones, or of those only what is thinking, the
            answer, or calls of tools; one of all, prompt, generated, thinking, answer, tools. With :k only the first k
            tokens that are generated, or the first k of that part, as in generated:8 or answer:8.
    """

    when: When = "all"

    def __post_init__(self) -> None:
        read_when(self.when)


def read_circuits(specifications: list[str], default_dial: float) -> list[tuple[str, Circuit, float]]:
    """Circuits from `[name=]file[@dial]`, each with its name and dial.

    Raises:
        OptionError: a dial is not a number, or a name is listed twice.
        FileError: a file can't be read.
    """
    from neurodial.circuit.file import read_circuit

    circuits: list[tuple[str, Circuit, float]] = []
    for specification in specifications:
        name, path, dial = split_specification(specification)
        circuit = read_circuit(path)
        circuits.append((name or circuit.name, circuit, default_dial if dial is None else dial))
    names = [name for name, _, _ in circuits]
    if len(set(names)) != len(names):
        raise OptionError(f"The circuits are named {', '.join(names)}.", wanted="different names (name=file)")
    return circuits


def behaviour_of(circuits: Sequence[Circuit]) -> str | None:
    """The shipped behaviour that circuits were found with; None where there are no circuits.

    Raises:
        OptionError: their files name none, several, or one that does not ship.
    """
    from neurodial.prompts.behaviours import behaviour_names

    if not circuits:
        return None
    names = {circuit.origin.behaviour for circuit in circuits}
    accepted = "--behaviour NAME or FILE"
    if len(names) != 1 or names == {None}:
        listed = ", ".join(sorted(repr(name) for name in names if name)) or "none"
        raise OptionError(f"No behaviour is asked for; the circuits' files name {listed}.", wanted=accepted)
    name = str(names.pop())
    if name not in behaviour_names():
        raise OptionError(
            f"The circuit was found with prompts of your own, {name!r}.", wanted=f"{accepted}: the same file again"
        )
    return name


def split_specification(text: str) -> tuple[str | None, Path, float | None]:
    """`[name=]file[@dial]` in its parts.

    Example:
        >>> split_specification("polite=out/refusal.circuit.json@-0.5")
        ('polite', PosixPath('out/refusal.circuit.json'), -0.5)
    """
    name, equals, rest = text.partition("=")
    if not equals or "/" in name:
        name, rest = "", text
    path, at, dial = rest.rpartition("@")
    if not at:
        return name or None, Path(rest), None
    try:
        return name or None, Path(path), float(dial)
    except ValueError:
        if Path(rest).exists():
            return name or None, Path(rest), None
        raise OptionError(
            f"The dial of {text!r} is {dial!r}.", wanted="a number, as in file.circuit.json@0.5"
        ) from None


def parse_dials(text: str) -> list[float]:
    """A list of dials such as `-1,0,0.5,1`.

    Example:
        >>> parse_dials("-1,0,0.5")
        [-1.0, 0.0, 0.5]

    Raises:
        OptionError: something in it is not a number.
    """
    try:
        return [float(dial) for dial in text.split(",")]
    except ValueError:
        raise OptionError(f"The dials are {text!r}.", wanted="numbers between commas, such as -1,0,0.5,1") from None
