"""Pictures of trace graphs: one self-contained HTML page, with a heat map and the graph as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.tracing.graph import GraphNode, TraceGraph

_COLUMN, _ROW, _LEFT, _TOP = 64, 22, 70, 30

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.6 system-ui, sans-serif; margin: 2rem; color: #1d1d1f; background: #fff; max-width: 70rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
.text { font: 15px/2.1 ui-monospace, monospace; white-space: pre-wrap; }
.text span { border-radius: 3px; padding: .15rem 0; }
.scroll { overflow-x: auto; }
.note { color: #666; }
svg text { font: 11px ui-monospace, monospace; fill: #333; }
</style></head><body>
<h1>{{ title }}</h1>
<p class="note">Orange speaks for the first token, blue for the second; a deeper colour, more of the difference of
their logits. Point at a token, a node or a line for its number.</p>
{% for view in views %}
<h2>{{ view.question }} <span class="note">({{ view.value }})</span></h2>
<p class="text">{% for token in view.tokens %}<span style="background:{{ token.colour }}" \
title="{{ token.title }}">{{ token.text }}</span>{% endfor %}</p>
<div class="scroll"><svg width="{{ view.width }}" height="{{ view.height }}" role="img" \
aria-label="{{ view.question }}">
{% for line in view.lines %}<line x1="{{ line.x1 }}" y1="{{ line.y1 }}" x2="{{ line.x2 }}" y2="{{ line.y2 }}" \
stroke="{{ line.colour }}" stroke-width="{{ line.width }}" stroke-opacity="0.7"><title>{{ line.title }}</title></line>
{% endfor %}{% for dot in view.dots %}<circle cx="{{ dot.x }}" cy="{{ dot.y }}" r="{{ dot.radius }}" \
fill="{{ dot.colour }}" stroke="#555" stroke-width="0.5"><title>{{ dot.title }}</title></circle>
{% endfor %}{% for label in view.labels %}<text x="{{ label.x }}" y="{{ label.y }}" \
text-anchor="middle">{{ label.text }}</text>
{% endfor %}{% for label in view.depths %}<text x="4" y="{{ label.y }}">{{ label.text }}</text>
{% endfor %}</svg></div>
{% endfor %}
</body></html>
"""


@dataclass(frozen=True)
class _Scale:
    """Where the nodes of a graph are drawn."""

    depth: int
    largest: float

    def place(self, node: GraphNode, tokens: int) -> tuple[int, int]:
        """The centre of a node: tokens to the right, depth upwards."""
        token = tokens - 1 if node.token is None else node.token
        level = {"input": 0, "target": self.depth + 1}.get(node.kind, node.layer or 0)
        return _LEFT + token * _COLUMN, _TOP + (self.depth + 1 - level) * _ROW


def heat_colour(value: float, largest: float) -> tuple[int, int, int]:
    """White at 0, orange for positive, blue for negative values.

    Example:
        >>> heat_colour(0.0, 1.0)
        (255, 255, 255)
    """
    share = min(1.0, abs(value) / largest) if largest else 0.0
    full = (247, 140, 60) if value > 0 else (90, 150, 240)
    return tuple(round(255 + share * (channel - 255)) for channel in full)  # type: ignore[return-value]


def picture(graphs: Sequence[TraceGraph], *, title: str = "Why this answer?") -> str:
    """One HTML page of heat maps and graphs over hidden states; it loads nothing.

    Example:
        >>> from neurodial.tracing.trace import why
        >>> from neurodial.tracing.question import ask
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> picture(why(subject, [ask(subject, "<b>", "a", "b")])).count("<svg")
        1
    """
    from jinja2 import Environment

    views = [_view(graph) for graph in graphs]
    return Environment(autoescape=True).from_string(_PAGE).render(title=title, views=views)


def question_text(graph: TraceGraph) -> str:
    """What a graph answers, in words."""
    return f"Why {graph.target!r} and not {graph.foil!r}?" if graph.foil else f"Why {graph.target!r}?"


def _view(graph: TraceGraph) -> dict[str, object]:
    inputs = {node.token: node.relevance for node in graph.nodes if node.kind == "input"}
    depth = max((node.layer or 0 for node in graph.nodes if node.kind == "hidden"), default=0)
    inner = [abs(node.relevance) for node in graph.nodes if node.kind == "hidden"]
    scale = _Scale(depth, max(inner, default=0.0))
    width = _LEFT + len(graph.tokens) * _COLUMN
    return {
        "question": question_text(graph),
        "value": f"logit difference {graph.value:+.3f}" if graph.foil else f"logit {graph.value:+.3f}",
        "tokens": _heat(graph.tokens, inputs),
        "width": width,
        "height": _TOP * 2 + (depth + 1) * _ROW + 14,
        "lines": _lines(graph, scale),
        "dots": [_dot(node, graph, scale) for node in graph.nodes],
        "labels": [
            {"x": _LEFT + place * _COLUMN, "y": _TOP + (depth + 1) * _ROW + 22, "text": text.strip()[:9]}
            for place, text in enumerate(graph.tokens)
        ],
        "depths": [
            {"y": _TOP + (depth + 1 - level) * _ROW + 4, "text": f"block {level - 1}"} for level in range(1, depth + 1)
        ],
    }


def _heat(tokens: Sequence[str], relevance: dict[int | None, float]) -> list[dict[str, str]]:
    largest = max(map(abs, relevance.values()), default=0.0)
    return [
        {
            "text": text,
            "colour": _css(heat_colour(relevance.get(place, 0.0), largest)),
            "title": f"{text!r} {relevance.get(place, 0.0):+.4f}",
        }
        for place, text in enumerate(tokens)
    ]


def _lines(graph: TraceGraph, scale: _Scale) -> list[dict[str, object]]:
    places = {node.id: scale.place(node, len(graph.tokens)) for node in graph.nodes}
    largest = max((abs(edge.weight) for edge in graph.edges), default=1.0) or 1.0
    lines: list[dict[str, object]] = []
    for edge in graph.edges:
        (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
        lines.append(
            {
                "x1": x1,
                "y1": y1,
                "x2": x2,
                "y2": y2,
                "colour": "#d9691e" if edge.weight > 0 else "#2f6fd0",
                "width": f"{0.3 + 3 * abs(edge.weight) / largest:.2f}",
                "title": f"{edge.source} → {edge.target} {edge.weight:+.4f}",
            }
        )
    return lines


def _dot(node: GraphNode, graph: TraceGraph, scale: _Scale) -> dict[str, object]:
    x, y = scale.place(node, len(graph.tokens))
    largest = abs(graph.value) if node.kind == "target" else scale.largest
    return {
        "x": x,
        "y": y,
        "radius": 6 if node.kind == "target" else 5,
        "colour": _css(heat_colour(node.relevance, largest)),
        "title": f"{node.label} {node.relevance:+.4f}",
    }


def _css(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
