"""`neurodial evaluate`: one run that measures everything, resumable, with a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from neurodial.cli.console import bars, err, out
from neurodial.cli.judges import JudgeOptions
from neurodial.cli.options import ModelOptions, parse_dials, read_circuits
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.evaluation.results import Report
    from neurodial.intervention.base import Intervention


def evaluate(
    model: str,
    *circuits: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    behaviour: Annotated[str, Parameter(name=["--behaviour", "-b"])] = "refusal",
    dials: str = "1",
    against: str = "",
    detectors: str = "",
    prompts: int | None = None,
    neutral: int | None = None,
    over_refusal: int | None = None,
    questions: int | None = None,
    perplexity: int | None = None,
    max_new_tokens: int = 128,
    batch_size: int = 16,
    temperature: float = 0.0,
    seed: int = 0,
    system: str | None = None,
    kl_limit: float | None = None,
    thinking: Literal["leave-out", "apart"] = "leave-out",
    show_harmful: bool = False,
    force: bool = False,
    json: bool = False,
    judging: JudgeOptions | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Measure what steering did and what it cost, against other methods at their best.

    Finished rows stay in the output folder: the same command goes on where it was stopped.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        circuits: `[name=]file[@dial]` of each circuit; each is measured by itself. A dial here replaces --dials.
        output: the report's folder: report.json, report.html, plots and every answer.
        behaviour: the prompt set: a shipped behaviour, or a .jsonl, .csv or .toml file. Its test split is reported.
        dials: dials between commas; write --dials=-1,0.5,1 where the first is negative.
        against: methods to compare with, between commas: caa, caa-answers, caa-published, direction,
            direction-blocks, random, random-layer, prompt.
        detectors: detectors between commas; by default the behaviour's own, and every published list for refusal.
        prompts: at most this many test prompts of each side.
        neutral: neutral prompts, for text quality and divergence.
        over_refusal: safe prompts that sound unsafe, for refusal.
        questions: questions of our multiple-choice set; 0 for none.
        perplexity: texts written by people, for perplexity; 0 for none.
        max_new_tokens: the longest answer; take 512 for a headline number.
        batch_size: answers made at once.
        temperature: 0 for greedy decoding, else that of sampling.
        seed: of the sampling.
        system: a system message before every prompt.
        kl_limit: nats per token that tuning of the other methods allows.
        thinking: a reasoning model's think block: leave it out of what is scored, or score it apart as well.
        show_harmful: put the answers to harmful prompts into report.html too.
        force: evaluate on a model that a circuit was not made on.
        json: print the report as JSON.
        judging: a judge beside the detectors.
        loading: how the model is loaded.
    """
    from neurodial.evaluation.comparators.methods import check_names
    from neurodial.evaluation.options import Evaluation, check_dials
    from neurodial.measurement.options import Decoding
    from neurodial.prompts.behaviours import read_pairs

    if not circuits and not against:
        raise OptionError("There is nothing to evaluate.", wanted="a circuit's file, or methods with --against")
    methods = check_names(_parts(against))
    values = check_dials(parse_dials(dials))
    pairs = read_pairs(behaviour)
    decoding = Decoding(max_new_tokens, temperature, seed=seed, batch_size=batch_size, system=system)
    given = {
        "prompts": prompts,
        "neutral": neutral,
        "over_refusal": over_refusal,
        "questions": questions,
        "perplexity": perplexity,
        "kl_limit": kl_limit,
    }
    options = dataclasses.replace(
        Evaluation(detectors=_parts(detectors), decoding=decoding, thinking=thinking),
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    interventions = _interventions(circuits, values, force=force)
    judges = (judging or JudgeOptions()).judges()
    subject = (loading or ModelOptions()).load(model)

    from neurodial.evaluation.evaluate import evaluate as run

    report = run(
        subject,
        interventions,
        pairs,
        against=methods,
        options=options,
        detectors=judges,
        folder=output,
        progress=bars,
    )
    _write(report, output, show_harmful=show_harmful)
    _show(report, as_json=json)
    err.print(f"\nwritten: {output / 'report.html'}")


def _interventions(circuits: tuple[str, ...], dials: tuple[float, ...], *, force: bool) -> list[Intervention]:
    from neurodial.intervention.scale import Scale

    found: list[Intervention] = []
    for (name, circuit, own), text in zip(read_circuits(list(circuits), 1.0), circuits, strict=True):
        named = dataclasses.replace(circuit, name=name)
        wanted = (own,) if "@" in text and not Path(text).exists() else dials
        found += [Scale(named, dial=dial, force=force) for dial in wanted]
    return found


def _write(report: Report, folder: Path, *, show_harmful: bool) -> None:
    from neurodial.evaluation.report.evaluation import write_report
    from neurodial.evaluation.store import read_rows

    write_report(report, folder, read_rows(folder / "generations.jsonl"), show_harmful=show_harmful)


def _show(report: Report, *, as_json: bool) -> None:
    from neurodial.evaluation.results import report_json

    if as_json:
        print(report_json(report), end="")
        return
    names = [report.headline, "opposite", "over_refusal", "degenerate", "kl", "perplexity", "repetition", "accuracy"]
    names = [name for name in names if any(name in arm.metrics for arm in report.arms)]
    table = Table("method", "dial", *(name.removeprefix("rate:") for name in names), box=None)
    for arm in report.arms:
        cells = [arm.metrics.get(name) for name in names]
        table.add_row(arm.label, f"{arm.dial:g}", *("–" if c is None else f"{c.value:.3g}" for c in cells))
    out.print(table)
    for note in report.notes:
        out.print(note, style="dim")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
