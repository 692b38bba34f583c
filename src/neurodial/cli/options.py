"""Options that several commands share. Torch-free, so that help is quick."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import CycloptsError, Group, Parameter

from neurodial.cli.declared import every_text
from neurodial.errors import OptionError
from neurodial.intervention.when import When, read_when
from neurodial.provenance import setup_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurodial.circuit.circuit import Circuit
    from neurodial.cli.timed_parts import TimedParts
    from neurodial.model.subject import Subject
    from neurodial.prompts.pairs import PairSet
    from neurodial.prompts.template import Template

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


MODEL = Group("Model", sort_key=80)
ACTING = Group("When circuits act", sort_key=20)


@Parameter(name="*", group=MODEL)
@dataclass(frozen=True)
class ModelOptions:
    """How the model is loaded.

    Attributes:
        adapter: folder of a PEFT adapter to apply to the model first.
        dtype: auto, float32, bfloat16 or float16.
        device: for example cpu, cuda, cuda:1, mps.
        device_map: passed to transformers, for example auto.
        max_memory: DEVICE=SIZE, how much of a device device_map may fill, such as cpu=8GiB or 0=20GiB; what fits on
            none goes to the disk. Repeatable.
        offload_folder: where weights are put that fit on no device.
        load_in: quantise with bitsandbytes on loading: 4bit or 8bit.
        revision: revision of a Hub id.
        trust_remote_code: run code from the model's repository; off by default.
        template_option: NAME=VALUE, a variable for the chat template, such as enable_thinking=false; the value is
            JSON, or else a text. Repeatable.
        thinking_markers: the texts that begin and end a reasoning model's thinking, where they can't be found.
    """

    adapter: Path | None = None
    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    max_memory: Annotated[list[str] | None, Parameter(name="--max-memory", negative=())] = None
    offload_folder: Path | None = None
    load_in: Annotated[str | None, Parameter(name="--load-in")] = None
    revision: str | None = None
    trust_remote_code: bool = False
    template_option: Annotated[
        list[str] | None, Parameter(name="--template-option", allow_leading_hyphen=True, negative=())
    ] = None
    thinking_markers: Annotated[tuple[str, str] | None, Parameter(allow_leading_hyphen=True)] = None

    def template(self) -> Template:
        """The options of the chat template.

        Raises:
            OptionError: one has no name, or a name is listed twice.
        """
        from neurodial.prompts.template import Template

        return Template(parse_template_options(self.template_option or []), self.thinking_markers)

    def _placement(self) -> dict[str, Any]:
        """How much goes where, as transformers takes it.

        Raises:
            OptionError: nothing says that the model may be spread, or a size can't be read.
        """
        if self.device_map is None and (self.max_memory or self.offload_folder):
            raise OptionError(
                "--max-memory and --offload-folder say how a model is spread.", wanted="--device-map auto beside them"
            )
        options: dict[str, Any] = {}
        if self.offload_folder is not None:
            options["offload_folder"] = str(self.offload_folder)
        if self.max_memory:
            options["max_memory"] = parse_memory(self.max_memory)
        return options

    def load(self, model: str, *, in_steps: TimedParts | None = None) -> Subject:
        """The model that the user named, as the next of a command's steps where it has some."""
        from neurodial.cli.console import quiet_libraries, status
        from neurodial.model.which_model import refuse_no_model

        refuse_no_model(model)
        quiet_libraries()
        template = self.template()
        options: dict[str, Any] = {}
        if self.load_in is not None:
            options["quantization_config"] = _quantisation(self.load_in)
        options |= self._placement()
        with status(f"loading {model}") if in_steps is None else in_steps.next():
            from neurodial.model.load import load

            subject = load(
                model,
                adapter=self.adapter,
                dtype=self.dtype,
                device=self.device,
                device_map=self.device_map,
                revision=self.revision,
                trust_remote_code=self.trust_remote_code,
                template=template,
                **options,
            )
        tell_setup(subject)
        return subject


def tell_setup(subject: Subject) -> None:
    """Say what was particular about how a model was loaded and prompted."""
    from neurodial.cli.console import err

    for note in setup_notes(subject.setup):
        err.print(f"note: {note}", markup=False, style="dim")


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


def parse_template_options(texts: list[str]) -> dict[str, object]:
    """Options such as `enable_thinking=false`, their values read as JSON, or else as texts.

    Example:
        >>> parse_template_options(["enable_thinking=false", "reasoning_effort=low"])
        {'enable_thinking': False, 'reasoning_effort': 'low'}

    Raises:
        OptionError: one has no name or no value, or a name is listed twice.
    """
    options: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise OptionError(f"The template option is {text!r}.", wanted="NAME=VALUE, such as enable_thinking=false")
        if name.strip() in options:
            raise OptionError(f"The template option {name.strip()} is given twice.", wanted="each once")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = _meant(name.strip(), value.strip())
    return options


def _meant(name: str, value: str) -> str:
    """A text as it is; a misspelt JSON word is refused, since a template would take any text for true."""
    word = {"true": "true", "false": "false", "none": "null", "null": "null"}.get(value.lower())
    if word is not None:
        raise OptionError(f"The template option {name} is {value}.", wanted=f"JSON: {name}={word}")
    return value


def parse_memory(texts: Sequence[str]) -> dict[int | str, str]:
    """Sizes such as `cpu=8GiB` or `0=20GiB` by device; a GPU is a number.

    Example:
        >>> parse_memory(["cpu=8GiB", "0=20GiB"])
        {'cpu': '8GiB', 0: '20GiB'}

    Raises:
        OptionError: one has no device or no size, or a device is listed twice.
    """
    sizes: dict[int | str, str] = {}
    for text in texts:
        name, _, size = (part.strip() for part in text.partition("="))
        device = int(name) if name.isdigit() else name
        if not name or not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B", size):
            raise OptionError(f"--max-memory is {text!r}.", wanted="DEVICE=SIZE, such as cpu=8GiB or 0=20GiB")
        if device in sizes:
            raise OptionError(f"--max-memory names {name} twice.", wanted="each device once")
        sizes[device] = size
    return sizes


def _quantisation(load_in: str) -> object:
    from transformers import BitsAndBytesConfig

    if load_in not in {"4bit", "8bit"}:
        raise OptionError(f"--load-in is {load_in!r}.", wanted="4bit or 8bit")
    return BitsAndBytesConfig(load_in_4bit=load_in == "4bit", load_in_8bit=load_in == "8bit")
