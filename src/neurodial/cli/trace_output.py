"""What `neurodial trace` and `neurodial why` have in common: rules turned off, heat map, headline, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from neurodial.cli.console import err, out

if TYPE_CHECKING:
    from neurodial.tracing.graph import GraphNode, TraceGraph
    from neurodial.tracing.rules import Rules


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


def print_headline(graph: TraceGraph) -> None:
    """The question that the graph answers, and the value that it explains."""
    from neurodial.tracing.picture import question_text

    kind = "logit difference" if graph.foil else "logit"
    out.print(Text(f"{question_text(graph)}  ({kind} {graph.value:+.3f})", style="bold"))


def node_names(nodes: list[GraphNode]) -> str:
    """Labels of nodes, in one line."""
    return ", ".join(node.label for node in nodes) or "none"


def rules_without(without: str) -> Rules:
    """The linearisation rules, less those named between commas.

    Raises:
        UnknownNameError: there is no such rule.
    """
    import dataclasses

    from neurodial.errors import UnknownNameError, near_names
    from neurodial.tracing.rules import Rules

    names = [field.name for field in dataclasses.fields(Rules)]
    off = [name.strip().replace("-", "_") for name in without.split(",") if name.strip()]
    for name in off:
        if name not in names:
            raise UnknownNameError(f"There is no rule {name!r}.", fix=near_names(name, names))
    return dataclasses.replace(Rules(), **dict.fromkeys(off, False))


def write_graph(graph: TraceGraph, output: Path | None, dot: Path | None, *, force: bool) -> None:
    """Write the graph to the files that were asked for, and say so."""
    from neurodial.files import write_atomic
    from neurodial.tracing.graph_file import trace_dot, write_trace

    if output is not None:
        err.print(f"written: {write_trace(graph, output, overwrite=force)}")
    if dot is not None:
        err.print(f"written: {write_atomic(dot, trace_dot(graph), overwrite=force)}")
