"""`neurodial trace` and `neurodial why`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import err, out, print_json, status
from neurodial.cli.declared import OUTPUT, select_options
from neurodial.cli.options import ModelOptions
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.cli.declared import SelectOptions as Selection
    from neurodial.model.subject import Subject
    from neurodial.tracing.faithfulness import Ablation, Curve
    from neurodial.tracing.graph import GraphNode, TraceGraph
    from neurodial.tracing.nodes import NodeScore
    from neurodial.tracing.question import Question
    from neurodial.tracing.rules import Rules
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
    rules = _rules(without)
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
    _write(graph, output, dot, force=force)


def why(
    model: str,
    prompt: str,
    *,
    produced: Annotated[str | None, Parameter(name=["--produced", "-p"])] = None,
    right: Annotated[str | None, Parameter(name=["--right", "-r"])] = None,
    reference: str | None = None,
    mistakes: int = 1,
    answer: str = "",
    raw: bool = False,
    node_threshold: float = 0.01,
    edge_mass: float = 0.85,
    without: str = "",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    html: Path | None = None,
    dot: Path | None = None,
    force: bool = False,
    json: bool = False,
    loading: ModelOptions | None = None,
) -> None:
    """Show what in the prompt led to a wrong token rather than the right one.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        prompt: the text before the wrong token.
        produced: the token that the model gave; with --right.
        right: the token that would have been right.
        reference: the right answer instead: the model is made to follow it, and the first token that it would choose
            differently is explained.
        mistakes: how many of those tokens to explain; they share one batch.
        answer: the beginning of the answer.
        raw: take the prompt as plain text instead of as a chat message.
        node_threshold: keep hidden states with at least this share of the logit difference.
        edge_mass: keep the strongest edges that hold this share of the weight between two layers.
        without: linearisation rules to turn off, such as attention,product.
        output: write the graph to this .trace.json file (one explanation only).
        html: write heat map and graph to this self-contained page.
        dot: write the graph to this file in Graphviz's language (one explanation only).
        force: overwrite the files.
        json: print the graphs as JSON.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_existing, write_atomic

    if (reference is None) == (produced is None) or (produced is None) != (right is None):
        raise OptionError("It is not clear which tokens to compare.", wanted="--produced and --right, or --reference")
    if mistakes < 1 or (mistakes > 1 and (output or dot)):
        raise OptionError(
            f"The number of mistakes is {mistakes}.", wanted="at least 1; exactly 1 with --output or --dot"
        )
    rules = _rules(without)
    for path in (output, html, dot):
        if path is not None:
            refuse_existing(path, overwrite=force)
    subject = (loading or ModelOptions()).load(model)
    from neurodial.tracing.hidden_graph import Pruning
    from neurodial.tracing.picture import picture
    from neurodial.tracing.question import ask
    from neurodial.tracing.trace import mistakes as find_mistakes
    from neurodial.tracing.trace import why as explain

    if reference is None:
        questions = [ask(subject, prompt, produced or "", right, answer=answer, raw=raw)]
    else:
        tokens = ask(subject, prompt, 0, answer=answer, raw=raw).tokens
        questions = find_mistakes(subject, tokens, reference, count=mistakes)
    with status("looking back"):
        graphs = explain(subject, questions, pruning=Pruning(node_threshold, edge_mass), rules=rules)
    if json:
        _print_graphs(graphs)
    else:
        for graph in graphs:
            _show_why(graph)
    _write(graphs[0], output, dot, force=force)
    if html is not None:
        err.print(f"written: {write_atomic(html, picture(graphs), overwrite=force)}")


def heat_map(graph: TraceGraph) -> Text:
    """The input tokens, coloured by their relevance."""
    from neurodial.tracing.picture import heat_colour

    weights = {node.token: node.relevance for node in graph.nodes if node.kind == "input"}
    largest = max(map(abs, weights.values()), default=0.0)
    text = Text()
    for place, token in enumerate(graph.tokens):
        red, green, blue = heat_colour(weights.get(place, 0.0), largest)
        text.append(token, style=f"black on rgb({red},{green},{blue})")
    return text


def _show_trace(subject: Subject, traced: Trace, graph: TraceGraph, top: int) -> None:
    from neurodial.tracing.super_weights import super_weights
    from neurodial.tracing.trace import likely

    question = traced.relevance.question
    _headline(graph)
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
    out.print(Text(f"hubs: {_names(graph.hubs())}"))
    out.print(Text(f"bottlenecks: {_names(graph.bottlenecks())}"))
    for weight in [w for w in super_weights(subject, question, traced.nodes) if w.share >= 0.5][:3]:
        out.print(
            f"super weight: layer {weight.node.layer}, neuron {weight.node.neuron} → coordinate {weight.coordinate} "
            f"({weight.weight:+.3f}) carries {weight.share:.0%} of its node"
        )


def _show_why(graph: TraceGraph) -> None:
    _headline(graph)
    out.print(heat_map(graph))
    inputs = [node for node in graph.nodes if node.kind == "input"]
    table = Table("token", f"for {graph.target!r}", "token", f"for {graph.foil!r}", box=None)
    ranked = sorted(inputs, key=lambda node: -node.relevance)
    best = [node for node in ranked if node.relevance > 0][:5]
    worst = [node for node in ranked[::-1] if node.relevance < 0][:5]
    for number in range(max(len(best), len(worst))):
        pair = [side[number] if number < len(side) else None for side in (best, worst)]
        cells = [(Text(n.label), Text(f"{abs(n.relevance):.3f}")) if n else (Text(), Text()) for n in pair]
        table.add_row(*cells[0], *cells[1])
    out.print(table)
    hidden = sum(node.kind == "hidden" for node in graph.nodes)
    out.print(f"{hidden} hidden states and {len(graph.edges)} edges lead to it")
    out.print(Text(f"hubs: {_names([node for node in graph.hubs(8) if node.kind == 'hidden'][:3])}\n"))


def _headline(graph: TraceGraph) -> None:
    from neurodial.tracing.picture import question_text

    kind = "logit difference" if graph.foil else "logit"
    out.print(Text(f"{question_text(graph)}  ({kind} {graph.value:+.3f})", style="bold"))


def _names(nodes: list[GraphNode]) -> str:
    return ", ".join(node.label for node in nodes) or "none"


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


def _rules(without: str) -> Rules:
    import dataclasses

    from neurodial.errors import UnknownNameError, near_names
    from neurodial.tracing.rules import Rules

    names = [field.name for field in dataclasses.fields(Rules)]
    off = [name.strip().replace("-", "_") for name in without.split(",") if name.strip()]
    for name in off:
        if name not in names:
            raise UnknownNameError(f"There is no rule {name!r}.", fix=near_names(name, names))
    return dataclasses.replace(Rules(), **dict.fromkeys(off, False))


def _write(graph: TraceGraph, output: Path | None, dot: Path | None, *, force: bool) -> None:
    from neurodial.files import write_atomic
    from neurodial.tracing.graph_file import trace_dot, write_trace

    if output is not None:
        err.print(f"written: {write_trace(graph, output, overwrite=force)}")
    if dot is not None:
        err.print(f"written: {write_atomic(dot, trace_dot(graph), overwrite=force)}")


def _print_graph(graph: TraceGraph, curve: Curve | None) -> None:
    import dataclasses
    from json import loads

    from neurodial.tracing.graph_file import trace_json

    value = loads(trace_json(graph))
    if curve is not None:
        value["curve"] = dataclasses.asdict(curve) | {"points": [point._asdict() for point in curve.points]}
    print_json(value)


def _print_graphs(graphs: list[TraceGraph]) -> None:
    from json import loads

    from neurodial.tracing.graph_file import trace_json

    print_json([loads(trace_json(graph)) for graph in graphs])
