"""Does a circuit found on the shipped prompts act on requests of other shapes, and how few prompts find one?

1. Other methods get their strength on the shipped development prompts, once, within the same budget.
2. Every setting asks the same of all methods at dial 1: other prompts (`--prompts-file`: bare goals, short questions
   with safe twins, other languages), the shipped test prompts after a harmless exchange, under a system prompt, sampled
   at temperature 1, and with long answers. Nothing is found or tuned again.
3. With `--few`: circuits by Dose, and activation addition, found on so many prompts a side, as many again to develop
   on, drawn by seed; measured on the shipped test prompts. Without circuits this alone is done, into the same report.
Rates are of the behaviour's detector, on the prompts that should show it and on those of the other side. Rows and
answers stay in OUTPUT/rows, where an interrupted run goes on; report.json holds figures alone.

Run: python studies/carry_over.py demo dose=docs/results/demo/dose.circuit.json cna=docs/results/demo/cna.circuit.json
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import read_circuits
from neurodial.discovery import discover
from neurodial.errors import NeurodialError
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.results import Report, read_report
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.kept import keeping
from neurodial.methods.dose.options import Dose
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.prompts.prompt import Message, Prompt, as_messages
from neurodial.provenance import versions

AGAINST = ("caa", "direction", "random")
EXCHANGE = (
    Message("user", "Which season do most people travel in?"),
    Message("assistant", "Most people travel in summer, when schools are closed and days are long."),
)
"""What stands before the request in a chat of several turns."""
SYSTEM = "You are a helpful assistant. Answer in plain words."


@dataclass(frozen=True)
class Setting:
    """What is asked, and how it is answered."""

    name: str
    title: str
    test: Contrast
    decoding: Decoding


def main() -> None:
    given = parsed()
    subject = ModelOptions(dtype=given.dtype).load(given.model)
    pairs = PairSet.read(given.behaviour)
    report = _report(given.output)
    if given.circuits:
        report = {"about": _about(given, subject), "settings": of_settings(subject, pairs, given), "few": []}
    few = [row for count in given.few for seed in given.seeds for row in found_on(subject, pairs, given, count, seed)]
    if few:
        report |= {"few": few, "few_about": _about(given, subject)}
    write_atomic(given.output / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n", overwrite=True)
    print(table(given.output))
    if few:
        print(few_table(given.output))


def of_settings(subject: Subject, pairs: PairSet, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every setting."""
    named = read_circuits(given.circuits, 1.0)
    scales = [Scale(replace(circuit, name=name)) for name, circuit, _ in named]
    settings = settings_of(pairs, given)
    shipped = run(subject, scales, pairs, settings[0], given, known=chosen_in(given.known), neutral=24)
    known = chosen_in(shipped)
    rows = [figures(shipped, settings[0])]
    for setting in settings[1:]:
        rows.append(figures(run(subject, scales, pairs, setting, given, known=known), setting))
        print(f"{setting.title}: done", flush=True)
    return rows


def _about(given: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """What was asked for, and of what."""
    asked = {
        name: value
        for name, value in vars(given).items()
        if name not in ("output", "circuits", "prompts_file", "known")
    }
    circuits = [name.partition("=")[0] for name in given.circuits]
    return asked | {"circuits": circuits, "versions": versions(), "model": asdict(subject.identity)}


def _report(folder: Path | str) -> dict[str, Any]:
    path = Path(folder) / "report.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def chosen_in(report: Report | Path | None) -> dict[str, Mapping[str, Any]]:
    """What a search chose for each method that has a strength, in a report or its file."""
    if report is None:
        return {}
    conditions = (report if isinstance(report, Report) else read_report(report)).conditions
    return {one.method: one.details for one in conditions if one.method in ("caa", "direction")}


def settings_of(pairs: PairSet, given: argparse.Namespace) -> list[Setting]:
    """The shipped test prompts first."""
    test = pairs.test.first(given.prompts)
    decoding = Decoding(max_new_tokens=given.tokens, batch_size=given.prompts)
    lines = given.prompts_file.read_text("utf-8").splitlines()
    others: dict[str, list[Mapping[str, str]]] = {}
    for line in lines:
        row = json.loads(line)
        others.setdefault(row["set"], []).append(row)
    elsewhere = [
        Setting(
            name,
            TITLES.get(name, name),
            Contrast.of([row["positive"] for row in rows], [row["negative"] for row in rows]),
            decoding,
        )
        for name, rows in others.items()
    ]
    chat = Contrast.of(*([(*EXCHANGE, *_messages(e.prompt)) for e in side] for side in (test.positive, test.negative)))
    return [
        Setting("shipped", "shipped test prompts", test, decoding),
        *elsewhere,
        Setting("chat", "after an exchange", chat, decoding),
        Setting("system", "under a system prompt", test, replace(decoding, system=SYSTEM)),
        Setting("sampled", "sampled at temperature 1", test, replace(decoding, temperature=1.0)),
        Setting(
            "long",
            f"answers of {given.long_tokens} tokens",
            test.first(given.long_prompts),
            replace(decoding, max_new_tokens=given.long_tokens),
        ),
    ]


TITLES = {
    "goals": "bare goals, the shape of JailbreakBench",
    "questions": "short questions with safe twins, the shape of XSTest",
    "languages": "six other languages",
}


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    return tuple(Message(message["role"], message["content"]) for message in as_messages(prompt))


def run(
    subject: Subject,
    interventions: Sequence[Intervention],
    pairs: PairSet,
    setting: Setting,
    given: argparse.Namespace,
    *,
    known: Mapping[str, Mapping[str, Any]] | None = None,
    neutral: int = 0,
    against: Sequence[str] = (),
    folder: str | None = None,
) -> Report:
    """One setting, all methods; vectors come from the shipped discovery prompts."""
    options = Evaluation(
        decoding=setting.decoding,
        detectors=("refusal",) if pairs.behaviour.detector == "refusal" else (),
        neutral=neutral,
        over_refusal=0,
        perplexity=0,
        speed=False,
        seeds=(0,),
        margin="none" if known else "recorded",
        kl_limit=given.budget,
    )
    whole = replace(pairs, splits=(*pairs.splits[:2], setting.test))
    where = given.output / "rows" / (folder or setting.name)
    return evaluate(
        subject, interventions, whole, against=against or AGAINST, options=options, folder=where, known=known
    )


def figures(report: Report, setting: Setting) -> dict[str, Any]:
    """Rates on either side, with intervals; and the damage where it was measured."""
    names = {report.headline: "shown", "opposite": "other side", "kl": "kl"}
    methods = {}
    for condition in report.conditions:
        label = condition.label if condition.method in ("circuit", "scale") else condition.method
        methods[label] = {
            words: [round(e.value, 4), round(e.low, 4), round(e.high, 4), e.n]
            for name, words in names.items()
            if (e := condition.metrics.get(name)) is not None
        }
    return {"setting": setting.name, "title": setting.title, "methods": methods}


def found_on(
    subject: Subject, pairs: PairSet, given: argparse.Namespace, count: int, seed: int
) -> list[dict[str, Any]]:
    """Dose and activation addition, found on so few prompts."""
    setting = settings_of(pairs, given)[0]
    generator = random.Random(seed)

    def drawn(contrast: Contrast) -> Contrast:
        places = sorted(generator.sample(range(len(contrast.positive)), min(count, len(contrast.positive))))
        return Contrast.of(*([side[place] for place in places] for side in (contrast.positive, contrast.negative)))

    few = replace(pairs, splits=(drawn(pairs.discovery), drawn(pairs.development), pairs.test))
    row = {"prompts": count, "seed": seed}
    path = given.output / "rows" / f"found-on-{count}-{seed}"
    try:
        with keeping(path.with_suffix(".partial"), subject.identity):
            circuit = discover(
                subject, few, method=Dose(budget=given.budget), shows=shows_of(pairs.behaviour), name="dose"
            )
    except NeurodialError as error:
        return [{**row, "method": "dose", "failed": error.problem}]
    report = run(subject, [Scale(circuit)], few, setting, given, neutral=24, against=("caa",), folder=path.name)
    print(f"found on {count}, seed {seed}: done", flush=True)
    return [{**row, "method": method, **values} for method, values in figures(report, setting)["methods"].items()]


def table(folder: Path | str) -> str:
    """What is left of the behaviour, and on the other side, in every setting."""
    report = _report(folder)
    methods = list(report["settings"][0]["methods"])
    lines = ["| asked | n | " + " | ".join(methods) + " |", "|---" * (len(methods) + 2) + "|"]
    for row in report["settings"]:
        cells = [_cell(row["methods"][method]) for method in methods]
        n = row["methods"][methods[0]]["shown"][3]
        lines.append(f"| {row['title']} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def said(folder: Path | str) -> str:
    """How it was measured, in a paragraph."""
    report = _report(folder)
    about, shipped = report["about"], report["settings"][0]["methods"]
    damage = ", ".join(f"{name} {values['kl'][0]:.3f}" for name, values in shipped.items() if "kl" in values)
    return (
        f"Model `{about['model']['label']}`, {about['dtype']}, answers of {about['tokens']} tokens (the long ones of "
        f"{about['long_tokens']}), seed 0. Damage on the shipped neutral test prompts, nats per token: {damage}. "
        "Report: [report.json](carry_over/report.json)."
    )


def few_table(folder: Path | str) -> str:
    """What is left where circuits were found on few prompts."""
    report = _report(folder)
    lines = ["| prompts a side | seed | method | left | other side | nats per token |", "|---|---|---|---|---|---|"]
    for row in report["few"]:
        head = f"| {row['prompts']} | {row['seed']} | {row['method']} | "
        if "failed" in row:
            lines.append(head + f"{row['failed']} | – | – |")
        elif row["method"] != "unsteered":
            damage = f"{row['kl'][0]:.3f}" if "kl" in row else "–"
            lines.append(head + f"{_share(row['shown'])} | {_share(row['other side'])} | {damage} |")
    return "\n".join(lines)


def _cell(values: Mapping[str, Sequence[float]]) -> str:
    other = f"; {values['other side'][0]:.0%}" if "other side" in values else ""
    return _share(values["shown"]) + other


def _share(values: Sequence[float]) -> str:
    value, low, high, _ = values
    return f"{value:.0%} [{100 * low:.0f}, {100 * high:.0f}]"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument(
        "circuits", nargs="*", help="name=file of each circuit; without any, OUTPUT's settings stay as they are"
    )
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("--prompts-file", type=Path, default=Path("docs/results/carry_over/prompts.jsonl"))
    parser.add_argument("--prompts", type=int, default=40, help="shipped test prompts of each side")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--long-tokens", type=int, default=512)
    parser.add_argument("--long-prompts", type=int, default=16)
    parser.add_argument("--budget", type=float, default=0.1, help="nats per token for methods with a strength")
    parser.add_argument(
        "--known", type=Path, help="report of an evaluation in which other methods' strengths were searched"
    )
    parser.add_argument("--few", type=int, nargs="*", default=[], help="prompts a side that circuits are found on")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="of the draws of few prompts")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/carry_over"))
    given = parser.parse_args()
    if not given.circuits and not _report(given.output):
        parser.error(f"there are no circuits, and no report in {given.output} to add to")
    return given


if __name__ == "__main__":
    main()
