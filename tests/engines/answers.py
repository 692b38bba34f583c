"""A server's answer against the hook: the log-probabilities that it names, at the places of the tokens it generated."""

from neurodial.export.equivalence import log_probabilities
from neurodial.intervention.steer import steer

DOSES = {(5, 30): 1.0, (12, 700): 2.0, (20, 9): 0.5, (29, 1000): -1.0, (29, 4): 1.5, (29, 77): 1.0, (28, 3): 3.0}
"""In early, middle and late layers, up and down and past zero."""


def hooked(subject, prompt, steps, *interventions):
    """Log-probabilities (generated token, vocab) under the interventions at the places of the generated tokens."""
    sequence = (*prompt, *(step.token for step in steps[:-1]))
    with steer(subject, *interventions):
        (found,) = log_probabilities(subject.model, [sequence])
    return found[-len(steps) :]


def distance(steps, wanted):
    """The largest difference of a log-probability among the tokens that the server named, in nats."""
    gaps = [
        abs(value - float(row[token]))
        for step, row in zip(steps, wanted, strict=True)
        for token, value in {**step.top, step.token: step.log_probability}.items()
    ]
    return max(gaps)
