"""`neurodial condition`: on which prompts a circuit acts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from neurodial.cli.console import bars, err, out, print_json, written
from neurodial.cli.declared import OUTPUT, command_options
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import TwoLists
from neurodial.cli.timed_parts import steps
from neurodial.methods.condition_options import ConditionOptions

if TYPE_CHECKING:
    from neurodial.circuit.prompt_condition import PromptCondition
    from neurodial.cli.declared import Given as ConditionGiven
else:
    ConditionGiven = command_options(
        "ConditionGiven", {"condition": ConditionOptions()}, shared="The condition", module=__name__
    )


def condition(
    model: str,
    circuit: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=OUTPUT)],
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    given: Annotated[ConditionGiven | None, Parameter(name="*")] = None,
    lists: TwoLists | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Let a circuit act only on prompts that look like those of one side, and leave all others as they are.

    Weights come from discovery prompts, the threshold from development prompts; the test split stays for `evaluate`.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        circuit: the circuit's file.
        output: the file to write: the same circuit with the condition.
        behaviour: a shipped behaviour, or a file of contrasted prompts: the circuit acts on prompts like its positive
            ones; by default the one that the circuit was found with.
        force: overwrite the output file.
        json: print the condition as JSON.
        given: what is read, and how often it may err.
        lists: the prompts as two files: act on those like --positive, not on those like --negative.
        loading: how the model is loaded.
    """
    from neurodial.circuit.file import read_circuit
    from neurodial.files import refuse_existing
    from neurodial.options import changed

    options = changed(ConditionOptions(), given.values() if given is not None else {}, title="condition")
    read = read_circuit(circuit)
    pairs = (lists or TwoLists()).pairs(behaviour, [read])
    target = refuse_existing(output, overwrite=force)
    parts = steps(err, f"loading {model}", "reading prompts")
    subject = (loading or ModelOptions()).load(model, in_steps=parts)

    from neurodial.methods.find_condition import find_condition

    with parts.next():
        found = find_condition(subject, read, pairs, options, progress=bars)
    dataclasses.replace(read, condition=found).write(target, overwrite=force)
    if json:
        print_json(dataclasses.asdict(found))
        return
    _show(found)
    source = () if behaviour is None else ("-b", behaviour)
    written(
        target,
        then=(
            ("steer", model, target, "PROMPT"),
            ("evaluate", model, target, *source, "-o", target.with_name(f"{read.name}-report")),
        ),
    )


def _show(found: PromptCondition) -> None:
    from neurodial.evaluation.intervals import wilson

    out.print(f"acts where: {found.text}", markup=False)
    for words, side in (("its side", found.positive), ("the other side", found.negative)):
        estimate = wilson(side.holds, side.prompts)
        out.print(
            f"acts on {estimate.value:.0%} of {words} (95 % {estimate.low:.0%} to {estimate.high:.0%}, "
            f"n = {side.prompts}, development prompts, which set the threshold)"
        )
