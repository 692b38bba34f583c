"""How a model is loaded, as options. Torch-free, so that help is quick."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from neurodial.errors import OptionError
from neurodial.provenance import setup_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurodial.cli.timed_parts import TimedParts
    from neurodial.model.subject import Subject
    from neurodial.prompts.template import Template

MODEL = Group("Model", sort_key=80)


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
