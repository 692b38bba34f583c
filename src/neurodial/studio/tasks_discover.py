"""Jobs that find things: circuits and openers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurodial.circuit.circuit import Circuit
from neurodial.discovery import find
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.margins.choose_margin import choose_margin
from neurodial.methods.check import check_method
from neurodial.methods.registry import Method, method
from neurodial.options import changed
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.prompt_preview import as_lines, read_prompts
from neurodial.studio.studio_state import StudioState
from neurodial.studio.views import circuit_view, scores_view


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
        scores = {site: discovery.scores[site].detach().double().cpu().numpy() for site in discovery.scores}
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
