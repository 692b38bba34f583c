"""`neurodial why`: what in the prompt led to a wrong token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import err, out, print_json, status
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.trace_output import heat_map, node_names, print_headline, rules_without, write_graph
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.tracing.graph import TraceGraph


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
    rules = rules_without(without)
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
    write_graph(graphs[0], output, dot, force=force)
    if html is not None:
        err.print(f"written: {write_atomic(html, picture(graphs), overwrite=force)}")


def _show_why(graph: TraceGraph) -> None:
    print_headline(graph)
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
    out.print(Text(f"hubs: {node_names([node for node in graph.hubs(8) if node.kind == 'hidden'][:3])}\n"))


def _print_graphs(graphs: list[TraceGraph]) -> None:
    from json import loads

    from neurodial.tracing.graph_file import trace_json

    print_json([loads(trace_json(graph)) for graph in graphs])
