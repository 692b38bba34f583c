"""The command line: which commands there are, and how errors reach the user. Commands are imported when used."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from neurodial import __version__
from neurodial.cli.typed import remember
from neurodial.errors import NeurodialError

COMMANDS = {
    "demo": "neurodial.cli.demo_command:demo",
    "discover": "neurodial.cli.discover_command:discover",
    "show": "neurodial.cli.circuits_command:show",
    "steer": "neurodial.cli.steer_command:steer",
    "compare": "neurodial.cli.compare_command:compare",
    "evaluate": "neurodial.cli.evaluate_command:evaluate",
    "detectors": "neurodial.cli.detectors_command:detectors",
    "study": "neurodial.cli.studies_command:study",
    "export": "neurodial.cli.export_command:export",
    "verify": "neurodial.cli.export_command:verify",
    "serve": "neurodial.cli.serve_command:serve",
    "convert": "neurodial.cli.convert_command:convert",
    "behaviours": "neurodial.cli.behaviours_command:behaviours",
    "models": "neurodial.cli.models_command:models",
    "trace": "neurodial.cli.trace_command:trace",
    "why": "neurodial.cli.trace_command:why",
    "audit": "neurodial.cli.audit_command:audit",
    "studio": "neurodial.cli.studio_command:studio",
}
"""Every command and the function behind it."""

SUMMARIES = {
    "demo": "Find and dial the refusal circuit of a small real model, offline, on a CPU.",
    "discover": "Find the neurons behind a behaviour.",
    "show": "Show a circuit: its neurons, layers, stability and origin.",
    "steer": "Answer prompts side by side, unsteered and steered; without a prompt, chat.",
    "compare": "Show what two circuits share, or where two reports differ.",
    "detectors": "List the detectors, or score them against labelled answers.",
    "study": "Measure a grid: dial by neurons, all methods, two models, or where a circuit sits.",
    "evaluate": "Measure what steering did and what it cost, against other methods at their best.",
    "export": "Write a circuit as files that other engines load, and check that they do what the hook does.",
    "verify": "Check an export again: its files do what the hook does.",
    "serve": "Serve a model over OpenAI's API, with a dial for each request.",
    "convert": "Turn a table of neurons into a circuit or back, or steering vectors into another format.",
    "behaviours": "List the contrast sets that ship with neurodial, or preview one.",
    "models": "List the model types that were tried, and what each can do.",
    "trace": "Find the circuit behind one prediction: which neurons, at which tokens, and what feeds what.",
    "audit": "Measure how few neurons, pushed how far, undo a behaviour.",
    "studio": "Open a local page: chat with a dial, discover, look, measure, export.",
    "why": "Show what in the prompt led to a wrong token rather than the right one.",
}
"""One line on each command for the overview, so that it needs no import."""

EXAMPLES = {
    "discover": (
        "discover demo -b refusal --method dose -o refusal.circuit.json",
        "discover MODEL -b mine.jsonl --count 46 --universal none",
    ),
    "evaluate": (
        "evaluate demo refusal.circuit.json -b refusal --prompts 8 -o report",
        "evaluate MODEL a=a.circuit.json b=b.circuit.json@0.5 -b refusal --against caa,direction -o report",
    ),
    "study": (
        "study sweep demo refusal.circuit.json --counts 10,46 --points none -o sweep",
        "study frontier MODEL refusal.circuit.json --against caa,direction -o frontier",
    ),
    "trace": (
        "trace demo 'The capital of France is' -t ' Paris' -f ' London' --raw",
        "trace MODEL PROMPT -t ' yes' --threshold 0.02 -o yes.trace.json",
    ),
}
"""Commands to copy, at the end of a command's help."""


def _epilogue(name: str) -> str | None:
    if name not in EXAMPLES:
        return None
    return "\n".join(["Examples:", "", "```", *(f"neurodial {command}" for command in EXAMPLES[name]), "```"])


app = App(
    name="neurodial",
    version=__version__,
    help="Find the few neurons behind a behaviour of a language model, and turn it up or down.",
    help_on_error=False,
)
for _name, _target in COMMANDS.items():
    app.command(_target, name=_name, help=SUMMARIES[_name], help_epilogue=_epilogue(_name))


class _Notes(logging.Handler):
    """Prints the library's warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it on the current stderr."""
        print(f"note: {record.getMessage()}", file=sys.stderr)


_NOTES = _Notes(logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors are printed on stderr, with exit code 1 (2 for wrong usage)."""
    logging.getLogger("neurodial").addHandler(_NOTES)  # adding the same handler again does nothing
    typed = sys.argv[1:] if arguments is None else list(arguments)
    remember(typed)
    try:
        app(typed, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print(f"error: {error} See --help.", file=sys.stderr)
        sys.exit(2)
    except NeurodialError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported until a command needs it
            raise
        print(f"error: {out_of_memory(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def out_of_memory(error: Exception) -> NeurodialError:
    """The error for a device whose memory is too small for the model and its work."""
    return NeurodialError(
        f"The device is out of memory: {str(error).splitlines()[0]}",
        wanted="memory for the weights and about as much again for long prompts or many answers at once",
        fix="Try a smaller --batch-size, shorter answers, --dtype bfloat16, or --device cpu.",
    )


if __name__ == "__main__":
    main()
