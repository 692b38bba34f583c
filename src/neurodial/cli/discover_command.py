"""`neurodial discover`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from neurodial.cli.circuits_command import print_circuit_json, show_circuit
from neurodial.cli.console import bars, err, written
from neurodial.cli.declared import OUTPUT, Given, SelectOptions, command_options, select_options
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import TwoLists
from neurodial.cli.timed_parts import steps
from neurodial.cli.which_engine import ENGINE, WhichEngine, loaded_there
from neurodial.methods.registry import METHOD_WORDS, presets

if TYPE_CHECKING:
    from neurodial.cli.declared import Given as MethodOptions
    from neurodial.cli.declared import SelectOptions as Selection
    from neurodial.methods.registry import Method
else:
    MethodOptions = command_options(
        "MethodOptions", presets(), shared="Of several methods", leave_out=("select",), module=__name__
    )
    Selection = select_options("the method's own: fraction:0.001", module=__name__)

_PUBLISHED = ("cna", "cna-reference")
_BEYOND = (
    "This is the published method. --method dose measures how far to turn each neuron, and on every behaviour studied "
    "here left less of it for less damage; it needs gradients and some minutes."
)
_METHODS = "; ".join(f"{name}: {words}" for name, words in METHOD_WORDS.items())


def discover(
    model: str,
    *engine_options: Annotated[str, Parameter(group=ENGINE)],
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    method: Annotated[str, Parameter(help=_METHODS)] = "cna",
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    selection: Selection | None = None,
    options: MethodOptions | None = None,
    lists: TwoLists | None = None,
    loading: ModelOptions | None = None,
    engine: WhichEngine | None = None,
) -> None:
    """Find the neurons behind a behaviour and write them to a circuit file.

    Finished pieces of a search stay beside the file until it is written (FILE.partial): after Ctrl-C the same command
    goes on.

    Args:
        model: Hub id, local folder, GGUF file, `demo` (the small model with the refusal organism) or `demo-base`.
        engine_options: the engine's own options, after `--`.
        behaviour: a shipped behaviour (see `neurodial behaviours`), or a file of contrasted prompts.
        output: the circuit's file; by default BEHAVIOUR.circuit.json.
        method: see the list.
        force: overwrite the output file.
        json: print the circuit as JSON.
        selection: which neurons are taken.
        options: of the method.
        lists: the behaviour as two files.
        loading: how the model is loaded.
        engine: what runs the model.
    """
    from neurodial.files import refuse_existing
    from neurodial.methods.check import check_method, check_without_gradients

    chosen = chosen_method(method, selection, options)
    pairs = (lists or TwoLists()).pairs(behaviour)
    check_method(chosen, pairs)
    target = refuse_existing(output or Path(f"{pairs.behaviour.name}.circuit.json"), overwrite=force)
    partial = target.with_name(f"{target.name}.partial")
    loading = loading or ModelOptions()
    outside = (engine or WhichEngine()).chosen(model, loading, engine_options, partial)
    parts = steps(err, f"loading {model}", f"finding neurons by {method}")
    if outside is None:
        subject = loading.load(model, in_steps=parts)
    else:
        check_without_gradients(chosen)
        subject = loaded_there(outside, parts).subject

    from neurodial.discovery import discover as find
    from neurodial.evaluation.detectors.registry import shows_of
    from neurodial.kept import keeping

    if partial.exists():
        err.print(f"going on with what an earlier run left in {partial}", markup=False)
    with parts.next(), keeping(partial, subject.identity):
        shows = shows_of(pairs.behaviour)
        found_in = outside or subject
        circuit = find(found_in, pairs, method=chosen, shows=shows, name=pairs.behaviour.name, progress=bars)
        circuit.write(target, overwrite=force)
    if json:
        print_circuit_json(circuit)
        return
    show_circuit(circuit, top=10)
    if method in _PUBLISHED:
        err.print(_BEYOND, style="dim", markup=False)
    source = () if behaviour is None else ("-b", behaviour)
    report = target.with_name(f"{pairs.behaviour.name}-report")
    written(
        target,
        then=(("steer", model, target, "PROMPT"), ("evaluate", model, target, *source, "--prompts", 12, "-o", report)),
    )


def chosen_method(name: str, selection: SelectOptions | None, options: Given | None) -> Method:
    """The method with every option that was typed.

    Raises:
        UnknownNameError: there is no such method.
        OptionError: the method lacks an option, or an option makes no sense.
    """
    from neurodial.methods.registry import method, with_select
    from neurodial.options import changed

    chosen = changed(method(name), {} if options is None else options.values(), title=f"Method {name}")
    select = None if selection is None else selection.chosen()
    return chosen if select is None else with_select(chosen, select)
