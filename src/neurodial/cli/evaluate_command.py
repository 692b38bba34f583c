"""`neurodial evaluate`: one run that measures everything, resumable, with a report."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from neurodial.cli.console import bars, err, out, written
from neurodial.cli.declared import OUTPUT
from neurodial.cli.judge_options import JudgeOptions
from neurodial.cli.measure_options import MeasureOptions, evaluation_of, parts
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import Texts, TwoLists, WhenOptions, joined, parse_dials, read_circuits
from neurodial.cli.timed_parts import steps
from neurodial.cli.typed import typed_command
from neurodial.cli.which_engine import WhichEngine, loaded_there
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.engines.vllm_engine import VLLM
    from neurodial.evaluation.results import Report
    from neurodial.intervention.base import Intervention
    from neurodial.model.subject import Subject


def evaluate(
    model: str,
    *circuits: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=OUTPUT)],
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    dials: Texts = None,
    against: Texts = None,
    test_set: str | None = None,
    protocol: Literal["paper"] | None = None,
    show_harmful: Annotated[bool, Parameter(group=OUTPUT)] = False,
    force: bool = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    lists: TwoLists | None = None,
    measuring: MeasureOptions | None = None,
    judging: JudgeOptions | None = None,
    acting: WhenOptions | None = None,
    loading: ModelOptions | None = None,
    engine: WhichEngine | None = None,
) -> None:
    """Measure what steering did and what it cost, against other methods at their best.

    Finished rows stay in the output folder: the same command goes on where it was stopped.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        circuits: `[name=]file[@dial]` of each circuit; each is measured by itself. A dial here replaces
            --dials. Then, after `--`, the engine's own options.
        output: the report's folder: report.json, report.html, plots and every answer.
        behaviour: the prompt set: a shipped behaviour, or a file of contrasted prompts; by default the one that
            the circuits were found with. Its test split is reported.
        dials: dials between commas or one each time, 1 by default; write --dials=-1,0.5,1 where the first is negative.
        against: methods to compare with, between commas or one each time: cna, cna-paper, effect, dose, single, caa,
            caa-answers, caa-published, direction, direction-blocks, random, random-layer, random-searched, prompt.
        test_set: test on another data set than the behaviour's own test split: jbb, xstest, or-bench, strongreject,
            harmbench, or a file of harmful prompts, or of harmful and safe ones with labels.
        protocol: paper: prompts, length, detectors, strengths, CAA and MMLU of arXiv 2605.12290; what is given beside
            it wins.
        show_harmful: put the answers to harmful prompts into report.html too.
        force: evaluate on a model that a circuit was not made on.
        json: print the report as JSON.
        lists: the behaviour as two files.
        measuring: what is measured, on how much.
        judging: a judge beside the detectors.
        acting: when circuits act.
        loading: how the model is loaded.
        engine: what runs the model.
    """
    from neurodial.evaluation import protocol as preset
    from neurodial.evaluation.in_engine import check_in_engine
    from neurodial.evaluation.mmlu_run import check_benchmarks
    from neurodial.evaluation.options import check_dials
    from neurodial.methods.comparators import check_names
    from neurodial.prompts.borrowed import with_test_set

    circuits, engine_options = with_options(circuits)
    partial = output.with_name(f"{output.name}.partial")
    loading = loading or ModelOptions()
    outside = (engine or WhichEngine()).chosen(model, loading, engine_options, partial)
    options = evaluation_of(measuring)
    if protocol == "paper":
        dials = dials or [",".join(map(str, preset.ALPHAS))]
        against = list(preset.AGAINST) if against is None else against
        test_set = test_set or preset.TEST_SET
        options = evaluation_of(measuring, preset.paper(options))
    methods = check_names(parts(joined(against)))
    if not circuits and not methods:
        raise OptionError("There is nothing to evaluate.", wanted="a circuit's file, or methods with --against")
    values = check_dials(parse_dials(joined(dials, "1")))
    found_with = [circuit for _, circuit, _ in read_circuits(list(circuits), 1.0)]
    pairs = (lists or TwoLists()).pairs(behaviour, found_with)
    if test_set is not None:
        if options.measured != "test":
            raise OptionError("A test set came with --split development.", wanted="one of the two")
        pairs = with_test_set(pairs, test_set, options.prompts)
    interventions = _interventions(circuits, values, acting or WhenOptions(), force=force)
    judges = (judging or JudgeOptions()).judges()
    if outside is not None:
        check_in_engine(interventions, methods, options)
    check_benchmarks(options.harness)
    progress = steps(err, f"loading {model}", "answering, judging and measuring", "writing the report")
    if outside is None:
        subject: Subject | VLLM = loading.load(model, in_steps=progress)
    else:
        subject = loaded_there(outside, progress)

    from neurodial.evaluation.evaluate import evaluate as run

    settings = {"against": methods, "options": options, "detectors": judges, "folder": output, "progress": bars}
    with progress.next():
        report = run(subject, interventions, pairs, **settings)  # type: ignore[arg-type]
    shutil.rmtree(partial, ignore_errors=True)
    with progress.next():
        report = write_folder(report, output, show_harmful=show_harmful)
    show_report(report, as_json=json)
    files = circuits[:1]
    written(output / "report.html", then=[("export", model, *files)] if files else ())


def with_options(typed: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Circuits, and the engine's options: those begin with a dash, which before `--` would be an option of ours.

    Example:
        >>> with_options(["a.json", "b.json", "--max-model-len", "64"])
        (('a.json', 'b.json'), ('--max-model-len', '64'))
    """
    first = next((place for place, text in enumerate(typed) if text.startswith("-")), len(typed))
    return tuple(typed[:first]), tuple(typed[first:])


def write_folder(report: Report, folder: Path, *, show_harmful: bool = False) -> Report:
    """Write report.json, report.html and the plots beside the rows; gives the report with the command in it."""
    from neurodial.evaluation.report.evaluation import write_report
    from neurodial.evaluation.store import Answers

    report = with_command(report)
    write_report(report, folder, Answers.read(folder), show_harmful=show_harmful)
    return report


def with_command(report: Report) -> Report:
    """The report with the command line that makes it again."""
    return dataclasses.replace(report, provenance={**report.provenance, "command": typed_command()})


def show_report(report: Report, *, as_json: bool = False) -> None:
    """Print the numbers that matter most, or the report as JSON."""
    from neurodial.cli.report_table import print_report
    from neurodial.evaluation.results import report_json

    if as_json:
        print(report_json(report), end="")
    else:
        print_report(report, out)


def _interventions(
    circuits: tuple[str, ...], dials: tuple[float, ...], acting: WhenOptions, *, force: bool
) -> list[Intervention]:
    from neurodial.intervention.scale import Scale

    interventions: list[Intervention] = []
    for (name, circuit, own), text in zip(read_circuits(list(circuits), 1.0), circuits, strict=True):
        named = dataclasses.replace(acting.on(circuit), name=name)
        circuit_dials = (own,) if "@" in text and not Path(text).exists() else dials
        interventions += [Scale(named, dial=dial, when=acting.when, force=force) for dial in circuit_dials]
    return interventions
