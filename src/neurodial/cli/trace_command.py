"""`neurodial trace`: the circuit behind one prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import out, print_json, status
from neurodial.cli.declared import OUTPUT, select_options
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.trace_output import heat_map, node_names, print_headline, rules_without, write_graph

if TYPE_CHECKING:
    from neurodial.cli.declared import SelectOptions as Selection
    from neurodial.model.subject import Subject
    from neurodial.tracing.faithfulness import Ablation, Curve
    from neurodial.tracing.graph import TraceGraph
    from neurodial.tracing.nodes import NodeScore
    from neurodial.tracing.question import Question
    from neurodial.tracing.trace import Trace
else:
    Selection = select_options("count:30", module=__name__)


def trace(
    model: str,
    prompt: str,
    *,
    target: Annotated[str, Parameter(name=["--target", "-t"])],
    foil: Annotated[str | None, Parameter(name=["--foil", "-f"])] = None,
    answer: str = "",
    raw: bool = False,
    without: str = "",
    edge_mass: float = 1.0,
    curve: Literal["mean", "zero", "resample"] | None = None,
    reference: str = "neutral",
    top: Annotated[int, Parameter(group=OUTPUT)] = 15,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    dot: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    selection: Selection | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Find the circuit behind one prediction: which neurons, at which tokens, and what feeds what.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        prompt: the text before the prediction.
        target: the token to explain, with its leading space.
        foil: the token to compare it with; without one, the target's logit alone is explained.
        answer: the beginning of the answer.
        raw: take the prompt as plain text instead of as a chat message.
        without: linearisation rules to turn off, such as attention,product (all: norm, activation, product,
            attention, soft_cap).
        edge_mass: keep, for each node, the strongest edges that hold this share of the weight into it.
        curve: also measure faithfulness and completeness as the circuit grows, the rest ablated in this way.
        reference: prompts whose text the mean and resample ablations read, a shipped list or a file.
        top: how many nodes to list; 0 for all.
        output: write the graph to this .trace.json file.
        dot: write the graph to this file in Graphviz's language.
        force: overwrite the files.
        json: print the graph as JSON.
        selection: which nodes (neurons at tokens) are kept.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_existing

    select = None if selection is None else selection.chosen()
    rules = rules_without(without)
    for path in (output, dot):
        if path is not None:
            refuse_existing(path, overwrite=force)
    subject = (loading or ModelOptions()).load(model)
    from neurodial.tracing.question import ask
    from neurodial.tracing.trace import trace as find

    question = ask(subject, prompt, target, foil, answer=answer, raw=raw)
    with status("tracing"):
        traced = find(subject, question, select=select, rules=rules)
        measured = _curve(subject, question, traced.nodes, curve, (reference, raw)) if curve else None
    graph = traced.graph.strongest(edge_mass)
    if json:
        _print_graph(graph, measured)
    else:
        _show_trace(subject, traced, graph, top)
        if measured is not None:
            _show_curve(measured)
    write_graph(graph, output, dot, force=force)


def _show_trace(subject: Subject, traced: Trace, graph: TraceGraph, top: int) -> None:
    from neurodial.tracing.super_weights import super_weights
    from neurodial.tracing.trace import likely

    question = traced.relevance.question
    print_headline(graph)
    shown = ", ".join(f"{text!r} {share:.0%}" for text, share in likely(subject, question))
    out.print(Text(f"the model's own next token: {shown}"), style="dim")
    out.print(heat_map(graph))
    table = Table("layer", "neuron", "token", "relevance", "of the value", "activation", box=None)
    for score in traced.nodes[: top or len(traced.nodes)]:
        node = score.node
        share = score.relevance / graph.value if graph.value else 0.0
        place = Text(f"{node.token} {graph.tokens[node.token]!r}")
        cells = (f"{score.relevance:+.4f}", f"{share:+.1%}", f"{score.activation:+.3f}")
        table.add_row(str(node.layer), str(node.neuron), place, *cells)
    out.print(table)
    held = sum(score.relevance for score in traced.nodes)
    out.print(f"\n{len(traced.nodes)} nodes, {len(graph.edges)} edges; the nodes' relevance sums to {held:+.3f}")
    out.print(Text(f"hubs: {node_names(graph.hubs())}"))
    out.print(Text(f"bottlenecks: {node_names(graph.bottlenecks())}"))
    for weight in [w for w in super_weights(subject, question, traced.nodes) if w.share >= 0.5][:3]:
        out.print(
            f"super weight: layer {weight.node.layer}, neuron {weight.node.neuron} → coordinate {weight.coordinate} "
            f"({weight.weight:+.3f}) carries {weight.share:.0%} of its node"
        )


def _show_curve(curve: Curve) -> None:
    out.print(f"\nvalue {curve.whole:+.3f}; with every neuron ablated {curve.empty:+.3f}")
    table = Table("nodes", "faithfulness (ideal 1)", "completeness (ideal 0)", box=None)
    for point in curve.points:
        table.add_row(str(point.nodes), f"{point.faithfulness:+.3f}", f"{point.completeness:+.3f}")
    out.print(table)


def _curve(
    subject: Subject, question: Question, nodes: tuple[NodeScore, ...], kind: str, text: tuple[str, bool]
) -> Curve:
    from neurodial.tracing.faithfulness import faithfulness_curve

    counts = sorted({*(2**power for power in range(len(nodes).bit_length())), len(nodes)} - {0})
    return faithfulness_curve(subject, question, nodes, counts, _ablation(subject, question, kind, text))


def _ablation(subject: Subject, question: Question, kind: str, text: tuple[str, bool]) -> Ablation:
    from neurodial.prompts.behaviours import read_prompt_list
    from neurodial.prompts.prompt import prompt_text
    from neurodial.tracing.faithfulness import MeanAblation, ResampleAblation, ZeroAblation

    if kind == "zero":
        return ZeroAblation()
    name, raw = text
    prompts = list(read_prompt_list(name).prompts)
    rendered = [subject.encode(prompt_text(prompt)) for prompt in prompts] if raw else subject.render(prompts)
    if kind == "mean":
        return MeanAblation(tuple(rendered[:64]))
    return ResampleAblation(tuple(tokens for tokens in rendered if len(tokens) >= len(question.tokens)))


def _print_graph(graph: TraceGraph, curve: Curve | None) -> None:
    import dataclasses
    from json import loads

    from neurodial.tracing.graph_file import trace_json

    value = loads(trace_json(graph))
    if curve is not None:
        value["curve"] = dataclasses.asdict(curve) | {"points": [point._asdict() for point in curve.points]}
    print_json(value)
