"""Jobs that find things: circuits, openers, and what a neuron does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from neurodial.activations.position import Last
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import Neuron
from neurodial.discovery import find
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.intervention.scale import check_neurons
from neurodial.margins.choose_margin import choose_margin
from neurodial.methods.check import check_method
from neurodial.methods.registry import Method, method
from neurodial.options import changed
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.prompt_preview import as_lines, read_prompts
from neurodial.studio.studio_state import StudioState
from neurodial.studio.views import circuit_view, fires_view, scores_view
from neurodial.tracing.neuron import WrittenToken, firing, written_tokens

_READ = 24  # prompts of each side that a neuron's page reads


@dataclass(frozen=True)
class Discovered:
    """What a discovery found, not yet saved."""

    circuit: Circuit
    picture: dict[str, Any]

    def view(self) -> dict[str, Any]:
        """As the page shows it."""
        return {"circuit": circuit_view("", self.circuit), "scores": self.picture}


def chosen_method(asked: requests.Discovery) -> Method:
    """The method with every option of the request.

    Raises:
        OptionError: an option makes no sense, or the method lacks it.
    """
    return changed(method(asked.method), asked.options.given(), title=f"Method {asked.method}")


def discover(studio: StudioState, asked: requests.Discovery) -> Run:
    """Find a circuit. Pasted prompts are kept in the collection, so that they can be measured on later.

    Raises:
        PromptError: there is something wrong with the prompts.
        OptionError: an option makes no sense.
    """
    chosen = chosen_method(asked)
    pairs = read_prompts(studio.collection, asked.prompts)
    check_method(chosen, pairs)
    if not asked.prompts.set:
        studio.collection.save_prompts(asked.prompts.name or "pasted", as_lines(asked.prompts))

    def run(reporter: Reporter) -> Discovered:
        subject = studio.subject
        with reporter.stoppable(subject):
            shows = shows_of(pairs.behaviour)
            discovery = find(subject, pairs, method=chosen, shows=shows, name=asked.name, progress=reporter.progress)
        scores = {site.layer: discovery.scores[site].detach().double().cpu().numpy() for site in discovery.scores}
        return Discovered(discovery.circuit, scores_view(scores, discovery.circuit))

    return run


def openers(studio: StudioState, asked: requests.OpenersRequest) -> Run:
    """Find how the behaviour's answers begin, in the model's own answers to the discovery prompts.

    Raises:
        UnknownNameError: there is no such set.
        PromptError: it has no discovery prompts.
    """
    contrast = studio.collection.pairs(asked.prompts).discovery

    def run(reporter: Reporter) -> dict[str, Any]:
        with reporter.stoppable(studio.subject):
            beginnings = choose_margin(studio.subject, contrast, kind="openers", progress=reporter.progress).openers
        assert beginnings is not None  # noqa: S101  # what was asked for
        studio.found_openers[asked.prompts] = beginnings.texts
        return {"texts": list(beginnings.texts), "positive": beginnings.positive, "negative": beginnings.negative}

    return run


def neuron(studio: StudioState, asked: requests.NeuronRequest) -> Run:
    """What a neuron writes, and where it fires on a contrast.

    Raises:
        SteeringError: the model has no such neuron.
        UnknownNameError: there is no such prompt set.
    """
    neuron = Neuron(asked.layer, None, asked.index)
    check_neurons(frozenset({neuron}), studio.subject)
    contrast = studio.collection.pairs(asked.prompts).discovery

    def run(reporter: Reporter) -> dict[str, Any]:
        subject = studio.subject
        sides = {"positive": contrast.positive[:_READ], "negative": contrast.negative[:_READ]}
        named = [(side, example.prompt) for side, examples in sides.items() for example in examples]
        sequences = subject.render([prompt for _, prompt in named])
        with reporter.stoppable(subject):
            up, down = written_tokens(subject, neuron, count=12)
            values = firing(subject, neuron, sequences, progress=reporter.progress)
        spelled = [
            (side, [subject.tokenizer.decode([token]) for token in tokens], fired.tolist(), Last().read(len(tokens)))
            for (side, _), tokens, fired in zip(named, sequences, values, strict=True)
        ]
        return {
            "layer": asked.layer,
            "index": asked.index,
            "writes": _written(up),
            "holds_down": _written(down),
            "fires": fires_view(spelled),
        }

    return run


def _written(tokens: list[WrittenToken]) -> list[list[Any]]:
    return [[token.text, float(f"{token.weight:.4g}")] for token in tokens if math.isfinite(token.weight)]
