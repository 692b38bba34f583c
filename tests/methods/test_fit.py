"""The fit of doses: its slopes are those of the measured objective, it reaches a known optimum, and it stops early."""

import math

import pytest
import torch
from tests.subjects import circuit_of, fresh

from neurodial.errors import OptionError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers, unsteered_states
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.dose.dose_slopes import dose_slopes
from neurodial.methods.dose.fit import Fitting, Point, Price, Slope, fit_doses, price_of
from neurodial.methods.dose.refine import scaled
from neurodial.prompts.prompt import Example

FREE = (torch.full((4,), -5.0).double(), torch.full((4,), 5.0).double())


def test_slopes_are_those_of_the_measured_margin_and_divergence():
    subject = fresh("gpt2")  # whose norms take float64 as it comes
    subject.model.double()
    margin, examples = Openers.of([(40, 41), (50,)]), [Example(text) for text in ("what a day", "why", "old stones")]
    passages = own_answers(subject, ["tell me", "one more thing"], decoding=Decoding(max_new_tokens=5))
    rows = circuit_of(subject, 5).rows
    doses = torch.tensor([0.5, 1.5, -0.4, 0.2, 2.0], dtype=torch.float64)

    def measured(at):
        scale = scaled(rows, at)
        values = measure_margins(subject, margin, examples, under=scale)
        return sum(values) / len(values), measure_divergence(subject, passages, [scale])[0].mean

    found = dose_slopes(
        subject, scaled(rows, doses), margin, examples, passages, unsteered=unsteered_states(subject, passages)
    )
    assert (found.margin, found.divergence) == pytest.approx(measured(doses), rel=1e-9)
    places = found.of_margin.places_of([row.neuron for row in rows])
    for number, place in enumerate(places):
        step = torch.zeros(5, dtype=torch.float64)
        step[number] = 1e-5
        up, down = measured(doses + step), measured(doses - step)
        slopes = [(a - b) / 2e-5 for a, b in zip(up, down, strict=True)]
        own = [float(scores.flat()[place]) for scores in (found.of_margin, found.of_divergence)]
        assert own == pytest.approx(slopes, rel=1e-5, abs=1e-9)


class Planted:
    """A linear margin and a quadratic damage, whose best doses are `F^-1 e` at the length that meets the budget."""

    effect = torch.tensor([2.0, 1.0, 0.5, 1.5], dtype=torch.float64)
    budget = 0.2

    def __init__(self):
        self.curvature = torch.tensor(
            [[1.0, 0.9, 0.0, 0.0], [0.9, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -0.8], [0.0, 0.0, -0.8, 1.0]],
            dtype=torch.float64,
        )
        towards = torch.linalg.solve(self.curvature, self.effect)
        self.best = towards * math.sqrt(2 * self.budget / float(self.effect @ towards))

    def slope(self, doses):
        bent = self.curvature @ doses
        return Slope(float(3 - self.effect @ doses), float(doses @ bent / 2), -self.effect, bent)

    def develop(self, doses):
        found = self.slope(doses)
        return Point(found.margin, found.divergence)

    def closed(self):
        """Each neuron by itself, at the same damage: what effect and cost give."""
        towards = self.effect / self.curvature.diagonal()
        return towards * math.sqrt(2 * self.budget / float(towards @ self.curvature @ towards))


def test_the_fit_reaches_the_optimum_of_a_planted_margin():
    truth = Planted()
    start = truth.closed()
    price = price_of(truth.slope(start), budget=truth.budget, target=None, sign=1.0)
    found = fit_doses(start, FREE, start.abs(), truth.slope, truth.develop, price, Fitting(300, patience=99))
    best, closed = price.of(truth.develop(truth.best)), price.of(truth.develop(start))
    assert closed - best > 1, "the closed form leaves room"
    assert found.objective[0] == pytest.approx(closed)
    assert abs(min(found.objective) - best) < 0.01 * (closed - best)
    assert truth.develop(found.doses).divergence == pytest.approx(truth.budget, rel=0.02)
    few = fit_doses(start, FREE, start.abs(), truth.slope, truth.develop, price, Fitting(30, patience=99))
    at_budget = (truth.budget / truth.develop(few.doses).divergence) ** 0.5 * float(truth.effect @ few.doses)
    assert closed - (3 - at_budget) > 0.4 * (closed - best), "tens of steps go a good part of the way"


def test_doses_stay_within_their_bounds_and_a_target_ends_the_way():
    truth = Planted()
    start = truth.closed()
    bounds = (torch.zeros(4).double(), torch.full((4,), 0.3).double())
    price = Price(budget=None, target=2.9, sign=1.0, mu=1.0)
    found = fit_doses(
        start.clamp(max=0.3), bounds, start.abs(), truth.slope, truth.develop, price, Fitting(200, patience=99)
    )
    assert bool((found.doses >= 0).all())
    assert bool((found.doses <= 0.3).all())
    reached = truth.develop(found.doses)
    assert reached.margin == pytest.approx(2.9, abs=0.03), "a nearer margin would cost less, a farther one more"


def test_it_stops_where_development_prompts_do_not_improve_and_keeps_the_beginning():
    truth = Planted()
    start = truth.closed()
    price = price_of(truth.slope(start), budget=truth.budget, target=None, sign=1.0)

    def worse(doses):
        return Point(float((doses - start).norm()), 0.0)

    found = fit_doses(start, FREE, start.abs(), truth.slope, worse, price, Fitting(300, every=5, patience=2))
    assert (found.made, found.steps, len(found.objective)) == (10, 0, 3)
    assert torch.equal(found.doses, start)


def test_raising_a_margin_is_lowering_its_opposite():
    truth = Planted()
    start = truth.closed()
    price = price_of(truth.slope(start), budget=truth.budget, target=None, sign=1.0)
    up = Price(price.budget, None, -1.0, price.mu)

    def mirrored(doses):
        found = truth.slope(doses)
        return Slope(-found.margin, found.divergence, -found.of_margin, found.of_divergence)

    def mirrored_point(doses):
        found = truth.develop(doses)
        return Point(-found.margin, found.divergence)

    down = fit_doses(start, FREE, start.abs(), truth.slope, truth.develop, price, Fitting(20))
    raised = fit_doses(start, FREE, start.abs(), mirrored, mirrored_point, up, Fitting(20))
    assert torch.equal(down.doses, raised.doses)


def test_a_fit_without_steps_is_refused():
    with pytest.raises(OptionError, match="at least 1 step"):
        Fitting(0)
