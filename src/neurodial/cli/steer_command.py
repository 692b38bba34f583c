"""`neurodial steer`: answers side by side, to prompts from arguments, a file or stdin, or in a chat."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import Texts, WhenOptions, joined, parse_dials, read_circuits
from neurodial.errors import OptionError, PromptError
from neurodial.provenance import setup_notes

if TYPE_CHECKING:
    from neurodial.circuit.circuit import Circuit
    from neurodial.generation.decoding import Decoding
    from neurodial.generation.generate import Answer
    from neurodial.intervention.base import Intervention
    from neurodial.intervention.when import When
    from neurodial.model.subject import Subject
    from neurodial.prompts.prompt import Message, Prompt


def steer(
    model: str,
    *arguments: str,
    circuit: Annotated[list[str] | None, Parameter(name=["--circuit", "-c"])] = None,
    dial: Texts = None,
    file: Annotated[Path | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)] = None,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    system: str | None = None,
    unsteered: bool = False,
    force: bool = False,
    json: bool = False,
    acting: WhenOptions | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Answer prompts side by side, unsteered and steered; without a prompt, chat.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        arguments: the circuit's file (unless --circuit names one), then prompts. None: stdin, or a chat.
        circuit: `[name=]file[@dial]`; several compose, their doses add.
        dial: one dial or several, between commas or one each time; 1 by default. 0 unsteered, 1 the full circuit,
            negative the other way.
        file: prompts from a file, one a line, or rows of JSON or CSV with `prompt`; `-` for stdin.
        max_new_tokens: the longest answer.
        temperature: 0 for greedy decoding, else that of sampling.
        seed: of the sampling.
        system: a system message before every prompt.
        unsteered: the model alone, without a circuit: every argument is a prompt.
        force: steer a model that the circuit was not made on.
        json: print one JSON object per prompt.
        acting: when circuits act.
        loading: how the model is loaded.
    """
    from neurodial.generation.decoding import Decoding
    from neurodial.intervention.scale import template_notes
    from neurodial.prompts.prompt import prompt_text

    specifications, given = _arguments(circuit, arguments, unsteered=unsteered)
    dials = [] if unsteered else parse_dials(joined(dial, "1"))
    acting = acting or WhenOptions()
    circuits = [(name, acting.on(read), own) for name, read, own in read_circuits(specifications, default_dial=1.0)]
    fixed = {name: own for (name, _, own), text in zip(circuits, specifications, strict=True) if "@" in text}
    decoding = Decoding(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, system=system)
    prompts = _prompts(given, file)
    if prompts is None and json:
        raise OptionError("--json came without a prompt.", wanted="prompts as arguments, from --file or on stdin")
    subject = (loading or ModelOptions()).load(model)
    notes = template_notes([read for _, read, _ in circuits], subject)
    for note in notes:
        err.print(f"note: {note}", markup=False, style="dim")
    sides = [(value, _at(circuits, fixed, value, acting.when, force=force)) for value in dials]
    if prompts is None:
        _chat(subject, circuits, sides, decoding)
        return
    answers = _answers(subject, prompts, [None, *(side for _, side in sides)], decoding)
    acts = _acts(subject, circuits, prompts, system)
    for prompt, row, own in zip(prompts, answers, acts, strict=True):
        if json:
            steered = [{"dial": value, "text": a.text} for value, a in zip(dials, row[1:], strict=True)]
            line: dict[str, object] = {"prompt": _plain(prompt), "unsteered": row[0].text, "steered": steered}
            if any(answer.thinking is not None for answer in row):
                line["thinking"] = [answer.thinking for answer in row]  # of the unsteered side first
            if own:
                line["acts"] = own
            if notes or subject.setup:
                line["notes"] = [*setup_notes(subject.setup), *notes]
            print(json_module.dumps(line, ensure_ascii=False), flush=True)
        else:
            _show(prompt_text(prompt), dials, row, own)


def _arguments(
    circuit: list[str] | None, arguments: tuple[str, ...], *, unsteered: bool
) -> tuple[list[str], list[str]]:
    if unsteered and circuit:
        raise OptionError("--unsteered came with a circuit.", wanted="one of the two; dial 0 is unsteered, too")
    if circuit or unsteered:
        return circuit or [], list(arguments)
    if not arguments:
        raise OptionError(
            "No circuit is given.",
            wanted="the path of a circuit's file",
            fix='Make one with `neurodial discover`, then: neurodial steer MODEL FILE.circuit.json "prompt". For the '
            'model alone: neurodial steer MODEL --unsteered "prompt".',
        )
    return [arguments[0]], list(arguments[1:])


def _plain(prompt: Prompt) -> object:
    """A prompt as a JSON value: a text, or a list of messages."""
    from neurodial.prompts.prompt import as_messages

    return prompt if isinstance(prompt, str) else as_messages(prompt)


def _prompts(given: list[str], file: Path | None) -> Sequence[Prompt] | None:
    """The prompts to answer, or None for a chat."""
    from neurodial.prompts.lists import read_texts, text_list

    if given and file is not None:
        raise OptionError("Prompts came both as arguments and by --file.", wanted="one of the two")
    if given:
        return given
    prompts: Sequence[Prompt]
    if file is not None and str(file) != "-":
        prompts = read_texts(file)
    elif file is None and sys.stdin.isatty():
        return None
    else:
        prompts = [row.prompt for row in text_list(sys.stdin.read(), "stdin")]
    if not prompts:
        raise PromptError(f"There are no prompts in {file or 'stdin'}.", wanted="one prompt on each line")
    return prompts


def _at(
    circuits: list[tuple[str, Circuit, float]], fixed: dict[str, float], dial: float, when: When, *, force: bool
) -> Intervention:
    """All circuits together: those with their own dial (`file@0.5`) at that dial, the others at `dial`."""
    from neurodial.intervention.base import Together
    from neurodial.intervention.scale import Scale

    return Together(tuple(Scale(c, fixed.get(name, dial), when=when, force=force) for name, c, _ in circuits))


def _answers(
    subject: Subject, prompts: Sequence[Prompt], sides: list[Intervention | None], decoding: Decoding
) -> list[list[Answer]]:
    """For each prompt an answer of each side; all of them in shared batches."""
    from neurodial.generation.generate import generate

    everything = [prompt for prompt in prompts for _ in sides]
    answers = generate(subject, everything, under=sides * len(prompts), decoding=decoding, progress=bars)
    return [answers[start : start + len(sides)] for start in range(0, len(answers), len(sides))]


def _acts(
    subject: Subject, circuits: list[tuple[str, Circuit, float]], prompts: Sequence[Prompt], system: str | None
) -> list[dict[str, bool]]:
    """For each prompt, whether each circuit with a condition acts on it."""
    from neurodial.intervention.decide import acting

    conditioned = [(name, read) for name, read, _ in circuits if read.condition is not None]
    found = acting(subject, [read for _, read in conditioned], prompts, system=system)
    return [
        {name: own[place] for (name, _), own in zip(conditioned, found, strict=True)} for place in range(len(prompts))
    ]


def _show(prompt: str, dials: list[float], answers: Sequence[Answer], acts: dict[str, bool]) -> None:
    out.print(Text(prompt, style="bold"))
    for name, does in acts.items():
        out.print(Text(f"{name} {'acts' if does else 'does not act: its condition does not hold'} here", style="dim"))
    table = Table("unsteered", *(f"dial {value:g}" for value in dials), show_lines=True, expand=True)
    table.add_row(*(_cell(answer) for answer in answers))
    out.print(table)


def _cell(answer: Answer) -> Text:
    """The answer, after its thinking."""
    if answer.thinking is None:
        return Text(answer.text.strip())
    thought = answer.thinking + (" …" if answer.is_endless else "")
    return Text.assemble((f"{thought}\n\n", "dim"), answer.text.strip())


def _chat(
    subject: Subject,
    circuits: list[tuple[str, Circuit, float]],
    sides: list[tuple[float, Intervention]],
    decoding: Decoding,
) -> None:
    """A chat with every side at once; each side keeps its own answers."""
    from neurodial.generation.generate import generate
    from neurodial.intervention.base import at_dial
    from neurodial.prompts.prompt import Message

    dial_words = "/dial 0.5 turns the dial, " if sides else ""
    err.print(f"Ask away. {dial_words}/reset forgets the chat, /quit ends.", style="dim")
    histories: list[tuple[Message, ...]] = [() for _ in range(len(sides) + 1)]
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        if line == "/reset":
            histories = [() for _ in histories]
        elif line.startswith("/dial") and not sides:
            err.print("error: there is no circuit, so there is no dial; /quit, and name one")
        elif line.startswith("/dial"):
            try:
                value = float(line.removeprefix("/dial"))
                sides = [(value, at_dial(sides[0][1], value))]
                histories = histories[:2]
            except (ValueError, OptionError) as error:
                err.print(f"error: {error}")
        elif line:
            chats = [(*history, Message("user", line)) for history in histories]
            under = [None, *(side for _, side in sides)]
            answers = generate(subject, chats, under=under, decoding=decoding)
            histories = [(*a, Message("assistant", answer.text)) for a, answer in zip(chats, answers, strict=True)]
            [acts] = _acts(subject, circuits, chats[-1:], decoding.system)
            _show(line, [value for value, _ in sides], answers, acts)
