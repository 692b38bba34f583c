"""`neurodial explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json, status
from neurodial.cli.declared import OUTPUT, command_options
from neurodial.cli.explainer_options import ExplainerOptions
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.nla_options import PairOptions, vector_wording
from neurodial.cli.options import TwoLists
from neurodial.explain.options import Explaining

if TYPE_CHECKING:
    from neurodial.circuit.circuit import Circuit
    from neurodial.cli.declared import Given as ExplainGiven
    from neurodial.explain.dial_effects import Measuring
    from neurodial.explain.explainer import Explainer
    from neurodial.explain.explanation import CircuitExplanation
    from neurodial.explain.put_into_words import Wording
    from neurodial.model.subject import Subject
    from neurodial.prompts.pairs import PairSet
    from neurodial.prompts.prompt import Prompt
else:
    ExplainGiven = command_options(
        "ExplainGiven", {"explain": Explaining()}, shared="What is shown and measured", module=__name__
    )


def explain(
    model: str,
    circuit: Path,
    *,
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    texts: str | None = None,
    neutral: str = "neutral",
    show_harmful: bool = False,
    force_model: bool = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    given: Annotated[ExplainGiven | None, Parameter(name="*")] = None,
    lists: TwoLists | None = None,
    in_words: ExplainerOptions | None = None,
    autoencoder: PairOptions | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Explain a circuit: what its neurons read, write, fire on and do, alone, in groups and together.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        circuit: the circuit's file.
        behaviour: a shipped behaviour, or a file of contrasted prompts; by default the circuit's. `none` reads only
            --texts, and turns no dial.
        texts: more texts to watch the neurons on, a shipped list or a file.
        neutral: prompts that damage is measured on, and ordinary texts for an autoencoder, a shipped list or a file.
        show_harmful: keep the words of harmful prompts, which are left out otherwise.
        force_model: explain a circuit on a model that it was not made on.
        output: folder for explanation.html and explanation.json.
        force: overwrite the files.
        json: print JSON.
        given: how much is shown and measured.
        lists: the behaviour as two files.
        in_words: a model that puts neurons into words.
        autoencoder: a pair of models that puts what the circuit writes and changes into words.
        loading: how the model is loaded.
    """
    from neurodial.circuit.file import read_circuit
    from neurodial.files import refuse_existing
    from neurodial.options import changed

    options = changed(Explaining(), given.values() if given is not None else {}, title="explain")
    in_words = in_words or ExplainerOptions()
    in_words.check()
    for path in _paths(output):
        refuse_existing(path, overwrite=force)
    loaded = read_circuit(circuit)
    pairs = None if behaviour == "none" else (lists or TwoLists()).pairs(behaviour, [loaded])
    others = _texts(texts)
    pair = (autoencoder or PairOptions()).pair(model, loading or ModelOptions(), force=force_model)
    subject = (loading or ModelOptions()).load(model)
    wording = _wording(in_words.made(model, subject, loading or ModelOptions()), options)
    from neurodial.explain.corpus import corpus_of
    from neurodial.explain.explain_circuit import explain_circuit

    corpus = corpus_of(subject, pairs, others, name=texts or "")
    measuring = _measuring(subject, loaded, pairs, neutral) if options.measure else None
    explanation = explain_circuit(
        subject, loaded, corpus, measuring=measuring, options=options, wording=wording,
        autoencoder=vector_wording(pair, neutral), show_harmful=show_harmful, force=force_model, progress=bars,
    )  # fmt: skip
    if json:
        print_json(explanation.as_json())
    else:
        _show(explanation)
    _write(explanation, output, force=force)


def _paths(output: Path | None) -> list[Path]:
    return [] if output is None else [output / "explanation.html", output / "explanation.json"]


def _wording(speaker: Explainer | None, options: Explaining) -> Wording | None:
    if speaker is None:
        return None
    from neurodial.explain.put_into_words import Wording

    return Wording(speaker, options.places, options.places, options.seed)


def _texts(texts: str | None) -> list[Prompt]:
    if texts is None:
        return []
    from neurodial.prompts.behaviours import read_prompt_list

    return list(read_prompt_list(texts).prompts)


def _measuring(subject: Subject, circuit: Circuit, pairs: PairSet | None, neutral: str) -> Measuring | None:
    if pairs is None:
        return None
    from neurodial.explain.dial_effects import measuring_of

    with status("preparing the margin"):
        return measuring_of(subject, circuit, pairs, neutral, progress=bars)


def _show(explanation: CircuitExplanation) -> None:
    from neurodial.explain.explain_page import explanation_page

    page = explanation_page(explanation)
    out.print(Text.assemble((explanation.name, "bold"), f": {page.first.verdict}"))
    out.print(Text(page.about), style="dim")
    out.print(Text(f"promotes {' '.join(repr(token.text) for token in explanation.writes)}"))
    out.print(Text(f"holds down {' '.join(repr(token.text) for token in explanation.holds_down)}"))
    if explanation.words is not None and explanation.words.is_scored:
        out.print(Text(f"in words: {explanation.words.text} — {explanation.words.verdict}"))
    for vector in explanation.vectors:
        out.print(Text(f"{vector.name}: {vector.verdict}"))
        for sample in vector.samples:
            out.print(Text(f"  {' '.join(sample.text.split())}{f' [{sample.problem}]' if sample.problem else ''}"))
    table = Table("neuron", "dose", "margin", "damage", "AUROC", "group", "promotes", box=None)
    for neuron in explanation.neurons:
        effect = neuron.effect
        cells = ("–", "–") if effect is None else (f"{effect.margin:+.3f}", f"{effect.damage:.3g}")
        area = "–" if neuron.firing.auroc is None else f"{neuron.firing.auroc:.3f}"
        promoted = Text(" ".join(repr(token.text) for token in neuron.writes[:3]))
        table.add_row(neuron.neuron.short, f"{neuron.dose:.3g}", *cells, area, str(neuron.group), promoted)
    out.print(table)
    for neuron in explanation.neurons:
        if neuron.words is not None and neuron.words.is_scored:
            out.print(Text(f"{neuron.name}: {neuron.words.text} — {neuron.words.verdict}"))
    for note in explanation.notes:
        out.print(f"note: {note}", markup=False)


def _write(explanation: CircuitExplanation, output: Path | None, *, force: bool) -> None:
    if output is None:
        return
    from json import dumps

    from neurodial.evaluation.report.html_page import write_page
    from neurodial.explain.explain_page import explanation_page
    from neurodial.files import write_atomic

    output.mkdir(parents=True, exist_ok=True)
    page, values = _paths(output)
    err.print(f"written: {write_page(explanation_page(explanation), page, overwrite=force)}", markup=False)
    content = dumps(explanation.as_json(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    err.print(f"written: {write_atomic(values, content, overwrite=force)}", markup=False)
