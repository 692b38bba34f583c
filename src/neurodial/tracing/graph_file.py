"""Trace graphs as files: JSON with a version (written and read), and Graphviz DOT (written)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from neurodial.errors import FileError, OptionError, TraceFileError
from neurodial.files import write_atomic
from neurodial.tracing.graph import Edge, GraphNode, Kind, TraceGraph

FORMAT = "neurodial.trace"
VERSION = 1


class _Nodes(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    id: list[str]
    kind: list[Kind]
    layer: list[int | None]
    token: list[int | None]
    neuron: list[int | None]
    relevance: list[float]
    label: list[str]


class _Edges(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    source: list[str]
    target: list[str]
    weight: list[float]


class _GraphFile(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    format: Literal["neurodial.trace"]
    version: Literal[1]
    tokens: list[str]
    target: str
    foil: str
    value: float
    origin: dict[str, Any]
    nodes: _Nodes
    edges: _Edges


def trace_json(graph: TraceGraph) -> str:
    """The text of a trace file."""
    value = {
        "format": FORMAT,
        "version": VERSION,
        "tokens": list(graph.tokens),
        "target": graph.target,
        "foil": graph.foil,
        "value": graph.value,
        "origin": dict(graph.origin),
        "nodes": {name: [getattr(node, name) for node in graph.nodes] for name in GraphNode._fields},
        "edges": {name: [getattr(edge, name) for edge in graph.edges] for name in Edge._fields},
    }
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_trace(graph: TraceGraph, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a trace file, all of it or nothing.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.
    """
    return write_atomic(path, trace_json(graph), overwrite=overwrite)


def read_trace(path: str | Path) -> TraceGraph:
    """Read a trace file.

    Raises:
        FileError: the file can't be read.
        TraceFileError: it is not a trace file, is damaged, or is of a later version.
    """
    source = Path(path)
    try:
        value = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{source} can't be read: {error.strerror}.", wanted="a .trace.json file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TraceFileError(f"{source} is not JSON: {error}.", fix="Was it cut off? Make it again.") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise TraceFileError(f"{source} is not a trace file.", wanted=f'JSON with "format": "{FORMAT}"')
    version = value.get("version")
    if isinstance(version, int) and version > VERSION:
        raise TraceFileError(
            f"{source} has version {version}.", wanted=f"version {VERSION} or before", fix="Update neurodial."
        )
    try:
        file = _GraphFile.model_validate(value)
        nodes = _rows(file.nodes, GraphNode)
        edges = _rows(file.edges, Edge)
        tokens = tuple(file.tokens)
        return TraceGraph(nodes, edges, tokens, file.target, file.foil, file.value, file.origin)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise TraceFileError(f"{source} is damaged: {where}: {first['msg']}.") from error
    except (ValueError, OptionError) as error:
        raise TraceFileError(f"{source} is damaged: {error}") from error


def trace_dot(graph: TraceGraph) -> str:
    """The graph in Graphviz's language: layers upwards, green for, red against, width by weight.

    Example:
        >>> print(trace_dot(TraceGraph((), (), (), "a", "", 1.0)).splitlines()[0])
        digraph trace {
    """
    largest = max((abs(edge.weight) for edge in graph.edges), default=1.0) or 1.0
    top = max((abs(node.relevance) for node in graph.nodes if node.kind != "target"), default=1.0) or 1.0
    lines = ["digraph trace {", "  rankdir=BT;", '  node [shape=box, style="rounded,filled", fontname="Helvetica"];']
    for node in graph.nodes:
        label = f"{node.label}\n{node.relevance:+.3f}"
        shade = min(1.0, abs(node.relevance) / top)
        lines.append(
            f"  {_quoted(node.id)} [label={_quoted(label)}, fillcolor={_quoted(_colour(node.relevance, shade))}];"
        )
    for edge in graph.edges:
        width = 0.3 + 3.7 * abs(edge.weight) / largest
        colour = "#1a7f4b" if edge.weight > 0 else "#b3261e"
        lines.append(
            f"  {_quoted(edge.source)} -> {_quoted(edge.target)} "
            f'[penwidth={width:.2f}, color="{colour}", tooltip="{edge.weight:+.4f}"];'
        )
    lines.extend(f"  {{ rank=same; {' '.join(map(_quoted, rank))} }}" for rank in _ranks(graph))
    return "\n".join([*lines, "}"]) + "\n"


def _ranks(graph: TraceGraph) -> list[list[str]]:
    ranks: dict[tuple[str, int | None], list[str]] = {}
    for node in graph.nodes:
        ranks.setdefault((node.kind, node.layer), []).append(node.id)
    return list(ranks.values())


def _colour(value: float, shade: float) -> str:
    """White at 0, towards green for positive, red for negative."""
    full = (143, 209, 158) if value > 0 else (240, 160, 150)
    return "#" + "".join(f"{round(255 + shade * (channel - 255)):02x}" for channel in full)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "") + '"'


def _rows(columns: _Nodes | _Edges, kind: Any) -> Any:
    values = [getattr(columns, name) for name in kind._fields]
    return tuple(kind(*row) for row in zip(*values, strict=True))
