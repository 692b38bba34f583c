"""The one neuron with a measured dose: prompts in, a circuit of one neuron out.

1. The behaviour's margin, and the model's own answers to neutral prompts (`methods/dose/inputs.py`).
2. Candidates by slopes and activations on the discovery prompts (`scores_of_neurons.py`, arXiv 2605.08513).
3. Each is a path: multiplied by `1 - dose`, turned down where its score is positive and up where it is negative
   (to induce, the other way round), from a dose of 0.02 to the largest.
4. The one search (`strength/`) along each of them; what goes further on the development split is kept.
"""

from __future__ import annotations

import math

import torch

from neurodial.circuit.circuit import Row
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.judged import Shows
from neurodial.methods.dose.inputs import gather_inputs
from neurodial.methods.dose.paths import Bounds, uniform_path
from neurodial.methods.scores import Scores
from neurodial.methods.searched import DevelopmentSearch, Searched, reached, rows_of
from neurodial.methods.single.options import Single
from neurodial.methods.single.scores_of_neurons import CandidateNeuron, CandidateSearch, candidates
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.strength.development import PathSearch
from neurodial.strength.path import StrengthPath


def find_single(
    subject: Subject,
    pairs: PairSet,
    method: Single,
    *,
    margin: BehaviourMargin | None = None,
    shows: Shows | None = None,
    progress: Progress = silent,
) -> Searched:
    """Find the one neuron that goes furthest within the limits, and its dose.

    Raises:
        MarginError: the behaviour can't be measured by the margin asked for.
        ActivationError: no neuron is more active on the positive prompts than on the negative ones.
        BudgetError: nothing moves the margin as asked; a budget or a target that can't be met is reported.
        GradientError: the model gives no gradients.
        PromptError: a split is missing, or nearly all neutral answers show the behaviour.
    """
    inputs = gather_inputs(subject, pairs, method, margin=margin, shows=shows, with_cost=False, progress=progress)  # 1
    with inputs.watch.part("candidates"):
        neurons = candidates(  # 2
            subject,
            inputs.margin.pushed,
            pairs.discovery,
            search=CandidateSearch(method.layers, method.candidates),
            system=method.system,
            progress=progress,
        )
    searched = DevelopmentSearch(subject, pairs, method, inputs, progress)
    paths = {PathSearch(searched.development, dose_path(neuron, method)): neuron.neuron for neuron in neurons}  # 3
    with inputs.watch.part("search"):
        choice = searched.best_of(list(paths))  # 4
    names = {path: f"{neuron.layer}.{neuron.index}" for path, neuron in paths.items()}
    report = searched.report(choice, candidates=reached(choice, searched.limits, names))
    return Searched(rows_of(choice.best.intervention), _scores(subject, neurons), None, report, inputs.margin)


def dose_path(candidate: CandidateNeuron, method: Single) -> StrengthPath:
    """One candidate, scaled; the strength is the size of its dose (3).

    Example:
        >>> from neurodial.circuit.site import Neuron
        >>> path = dose_path(CandidateNeuron(Neuron(0, None, 1), 2.0, -1, 1.0, 0.5), Single())
        >>> path.high, path.at(1.5).circuit.rows[0].dose
        (9.0, 1.5)
    """
    row = Row(candidate.neuron, candidate.score, math.copysign(1.0, candidate.score))
    return uniform_path([row], Bounds(method.x_max, method.direction)).scaled({"neuron": list(candidate.neuron)})


def _scores(subject: Subject, neurons: list[CandidateNeuron]) -> Scores:
    """The candidates' scores; 0 for every other neuron."""
    by_site = {site: torch.zeros(subject.shape(site), dtype=torch.float64) for site in subject.sites}
    for candidate in neurons:
        by_site[candidate.neuron.site][candidate.neuron.place] = candidate.score
    return Scores(by_site)
