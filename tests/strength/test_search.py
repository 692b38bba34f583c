"""Finding how far to go: against functions whose answer is known."""

import math

import pytest

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import BudgetError
from neurodial.intervention.scale import Scale
from neurodial.strength.limits import AnswersBroken, Limits, Trial, better
from neurodial.strength.search import search


def measured(divergence, margin, log=None):
    def measure(strengths):
        if log is not None:
            log.extend(strengths)
        steered = Scale(Circuit.of([Row(Neuron(0, None, 1), 1.0, 2.0)]))
        return [Trial(s, steered, divergence(s), 0.0, margin(s)) for s in strengths]

    return measure


FALLING = measured(lambda s: s * s, lambda s: 4 - 5 * s)


def test_a_budget_is_spent_but_not_overspent():
    best, trials = search(0.001, 3.0, FALLING, Limits(budget=0.25, target=None))
    assert 0.2 < best.divergence <= 0.25
    assert [trial.strength for trial in trials] == sorted(trial.strength for trial in trials)
    finer, _ = search(0.001, 3.0, FALLING, Limits(budget=0.25, target=None), rounds=5)
    assert best.divergence <= finer.divergence <= 0.25


def test_an_ample_budget_takes_the_whole_path():
    log: list[float] = []
    best, _ = search(0.001, 3.0, measured(lambda s: s * s, lambda s: -s, log), Limits(budget=100.0, target=None))
    assert best.strength == 3.0
    assert len(log) == 6  # one round is enough


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("guess", [0.4, 2.0, 6.0])
def test_a_budget_is_found_from_few_measurements_where_damage_grows_as_a_power(power, guess):
    log: list[float] = []
    best, _ = search(1e-4, 50.0, measured(lambda s: s**power / 20, lambda s: -s, log), Limits(0.05, None), guess=guess)
    assert 0.9 < best.strength <= 1.0
    assert len(log) <= 6  # four before, and two to four more


def test_a_budget_far_below_the_first_strengths_is_found_too():
    log: list[float] = []
    best, _ = search(1e-4, 50.0, measured(lambda s: s * s, lambda s: -s, log), Limits(1e-4, None), guess=2.0)
    assert 0.008 < best.strength <= 0.01
    assert len(log) <= 6


def test_within_the_budget_the_best_margin_counts_where_a_push_turns_back():
    turning = measured(lambda s: s * s / 100, lambda s: (s - 1) ** 2)
    best, _ = search(0.001, 3.0, turning, Limits(budget=1.0, target=None))
    assert best.margin == min(trial.margin for trial in search(0.001, 3.0, turning, Limits(1.0, None))[1])
    assert best.strength < 2


def test_a_target_is_reached_at_the_least_damage():
    best, _ = search(0.001, 3.0, FALLING, Limits(budget=None, target=-1.0))
    assert best.margin <= -1.0
    assert best.strength == pytest.approx(1.0, rel=0.1)
    rising = measured(lambda s: s * s, lambda s: 5 * s)
    best, _ = search(0.001, 3.0, rising, Limits(budget=None, target=2.0, direction="induce"))
    assert best.margin >= 2.0
    assert best.strength == pytest.approx(0.4, rel=0.1)


def test_a_budget_that_cannot_be_met():
    with pytest.raises(BudgetError, match="smallest strength costs 1"):
        search(1.0, 3.0, FALLING, Limits(budget=0.5, target=None))


def test_a_target_out_of_reach_says_how_far_it_goes():
    with pytest.raises(BudgetError, match=r"comes to -11, not to -20, with 1 neurons at doses up to 2"):
        search(0.001, 3.0, FALLING, Limits(budget=None, target=-20.0))
    best, _ = search(0.001, 3.0, FALLING, Limits(budget=None, target=-20.0, target_required=False))
    assert best.strength == 3.0


def test_a_target_beyond_the_budget_says_what_it_costs():
    with pytest.raises(BudgetError, match=r"margin of -6 costs (4|5)[.\d]* nats per token.*budget is 1"):
        search(0.001, 3.0, FALLING, Limits(budget=1.0, target=-6.0))
    best, _ = search(0.001, 3.0, FALLING, Limits(budget=9.0, target=-6.0))
    assert best.divergence >= 4


def test_a_path_of_one_point():
    best, trials = search(1.0, 1.0, FALLING, Limits(budget=2.0, target=None))
    assert (best.strength, len(trials)) == (1.0, 1)
    assert math.isfinite(best.margin)


@pytest.mark.parametrize("bend", [0.01, 0.1, 0.5])
def test_where_doses_saturate_the_budget_is_spent_all_the_same(bend):
    """Interpolation alone lands beyond the budget every time: the divergence rises steeply, then bends to a plateau."""
    bent = measured(lambda s: 0.14 * s**4 / (s**4 + bend**4), lambda s: -s)
    best, trials = search(1e-5, 4.0, bent, Limits(budget=0.1, target=None))
    assert 0.085 <= best.divergence <= 0.1
    assert len(trials) <= 12


@pytest.mark.parametrize("guess", [1e-4, 0.4, 0.5, 2.5])
def test_a_guess_saves_measurements_and_a_wrong_one_does_no_harm(guess):
    log: list[float] = []
    measure = measured(lambda s: s * s, lambda s: -s, log)
    best, _ = search(0.001, 3.0, measure, Limits(budget=0.25, target=None), guess=guess)
    assert 0.22 <= best.divergence <= 0.25
    assert log[0] <= guess or log[0] == 0.001
    assert len(log) <= (8 if guess > 0.1 else 10)


def test_a_target_is_found_from_a_guess_on_either_side():
    for guess in (0.02, 2.9):
        best, _ = search(0.001, 3.0, FALLING, Limits(budget=None, target=-1.0), guess=guess)
        assert best.margin <= -1.0
        assert best.strength == pytest.approx(1.0, rel=0.1)


def test_where_the_margin_turns_back_within_the_budget_its_best_is_closed_in_on():
    """Best at strength 0.1, and the budget would allow 1: going as far as it allows is not the best."""

    def measure(strengths):
        return [Trial(s, None, s, 0.0, abs(math.log(s / 0.1))) for s in strengths]

    best, trials = search(0.001, 1.0, measure, Limits(budget=1.0, target=None), guess=1.0)
    assert abs(math.log(best.strength / 0.1)) < 0.12
    coarse = [abs(math.log(trial.strength / 0.1)) for trial in trials if trial.strength in {1.0, 0.4, 0.16, 0.064}]
    assert min(coarse) > abs(math.log(best.strength / 0.1))


def test_it_closes_in_on_the_least_strength_too():
    def measure(strengths):
        return [Trial(s, None, s, 0.0, abs(math.log(s / 0.02))) for s in strengths]

    best, _ = search(0.01, 1.0, measure, Limits(budget=1.0, target=None), guess=1.0)
    assert abs(math.log(best.strength / 0.02)) < 0.25


def test_inducing_turns_back_downwards():
    def measure(strengths):
        return [Trial(s, None, s, 0.0, -abs(math.log(s / 0.1))) for s in strengths]

    best, _ = search(0.001, 1.0, measure, Limits(budget=1.0, target=None, direction="induce"), guess=1.0)
    assert abs(math.log(best.strength / 0.1)) < 0.12


def test_a_target_near_the_turn_is_found():
    """Between strengths of 0.08 and 0.125 alone the target is reached; both ends and all first points miss it."""

    def measure(strengths):
        return [Trial(s, None, s, 0.0, abs(math.log(s / 0.1))) for s in strengths]

    limits = Limits(budget=None, target=math.log(1.25))
    best, trials = search(0.001, 1.0, measure, limits, guess=1.0)
    assert limits.meets_target(best)
    assert not any(limits.meets_target(trial) for trial in trials if trial.strength in {0.001, 1.0, 0.4, 0.16, 0.064})


def aiming(aim, log=None):
    """The further the lower the margin; the damage is the strength."""

    def measure(strengths):
        if log is not None:
            log.extend(strengths)
        return [Trial(s, None, s, 0.0, -s, aim(s)) for s in strengths]

    return measure


def hill(strength):
    """Likeliest at a strength of 1, and as likely as without steering at 2."""
    return -((strength - 1) ** 2)


@pytest.mark.parametrize("guess", [None, 1.0, 8.0])  # the budget is met at 9
def test_the_answers_aimed_for_become_no_less_likely(guess):
    log: list[float] = []
    limits = Limits(budget=9.0, target=None, least_reference=-1.0)
    best, _ = search(0.01, 9.0, aiming(hill, log), limits, guess=guess)
    assert 1.7 < best.strength <= 2.0
    assert best.reference >= -1
    assert len(log) <= 12


def test_the_budget_is_a_limit_beside_the_aim():
    best, _ = search(0.01, 9.0, aiming(hill), Limits(budget=1.5, target=None, least_reference=-1.0))
    assert 1.3 < best.divergence <= 1.5
    best, _ = search(0.01, 9.0, aiming(hill), Limits(budget=None, target=None, least_reference=-1.0))
    assert 1.7 < best.strength <= 2.0


def test_tiny_doses_that_lose_by_rounding_do_not_end_the_search():
    noisy = aiming(lambda s: -1.001 if s < 0.1 else hill(s))
    best, _ = search(0.01, 9.0, noisy, Limits(budget=9.0, target=None, least_reference=-1.0))
    assert 1.6 < best.strength <= 2.0


def test_where_every_dose_makes_them_less_likely_it_is_said():
    with pytest.raises(
        BudgetError, match=r"smallest strength makes the reference answers less likely.*-1.01 .*against -1"
    ):
        search(0.01, 9.0, aiming(lambda s: -1 - s), Limits(budget=9.0, target=None, least_reference=-1.0))


def test_a_target_beyond_the_aim_is_not_reached():
    best, _ = search(0.01, 9.0, aiming(hill), Limits(budget=None, target=-1.5, least_reference=-1.0))
    assert 1.5 <= best.strength < 1.8
    with pytest.raises(BudgetError, match="A margin of -4 makes the reference answers less likely"):
        search(0.01, 9.0, aiming(hill), Limits(budget=None, target=-4.0, least_reference=-1.0))
    best, _ = search(
        0.01, 9.0, aiming(hill), Limits(budget=None, target=-4.0, target_required=False, least_reference=-1.0)
    )
    assert best.reference >= -1


def breaking(share, log=None, mean=lambda s: 0.0):
    """The share of degenerate answers at a strength, and how broken answers are on average."""

    def answer(strengths):
        if log is not None:
            log.append(list(strengths))
        return [AnswersBroken(share(strength), mean(strength)) for strength in strengths]

    return answer


STEADY = measured(lambda s: s, lambda s: -s)  # the further the lower the margin; the damage is the strength
AT_MOST_A_TENTH = Limits(budget=4.0, target=None, max_degenerate=0.1)


def test_where_answers_hold_only_what_is_kept_is_answered_with():
    asked: list[list[float]] = []
    measured_at: list[float] = []
    measure = measured(lambda s: s, lambda s: -s, measured_at)
    best, trials = search(0.01, 9.0, measure, AT_MOST_A_TENTH, answer=breaking(lambda s: 0.1, asked))
    assert asked == [[best.strength]]
    assert best.degenerate == 0.1
    assert [trial.degenerate for trial in trials if trial is not best] == [None] * (len(trials) - 1)
    plain, _ = search(0.01, 9.0, STEADY, Limits(budget=4.0, target=None))
    assert best.strength == plain.strength


@pytest.mark.parametrize("guess", [None, 4.0, 0.02])
@pytest.mark.parametrize("breaks_at", [0.2, 1.0, 3.0])
def test_where_answers_break_it_goes_as_far_as_they_hold(guess, breaks_at):
    share = lambda s: 0.4 if s > breaks_at else 0.05  # noqa: E731
    best, trials = search(0.01, 9.0, STEADY, AT_MOST_A_TENTH, answer=breaking(share), guess=guess)
    assert 0.7 * breaks_at < best.strength <= breaks_at
    assert best.degenerate == 0.05
    assert all((trial.degenerate is None) == (trial.divergence > 4) for trial in trials)  # none beyond the budget
    assert len(trials) <= 16


@pytest.mark.parametrize("breaks_at", [0.2, 1.0, 3.0])
def test_the_mean_brokenness_is_a_limit_too_where_no_answer_is_degenerate(breaks_at):
    limits = Limits(budget=4.0, target=None, max_broken=0.15)
    worse = lambda s: 0.1 + 0.05 * s / breaks_at  # noqa: E731  # rises slowly, where a share would jump
    best, trials = search(0.01, 9.0, STEADY, limits, answer=breaking(lambda s: 0.0, mean=worse))
    assert 0.7 * breaks_at < best.strength <= breaks_at
    assert best.degenerate == 0.0
    assert best.broken == pytest.approx(worse(best.strength))
    assert {limits.exceeded(trial) for trial in trials if trial.strength > breaks_at} <= {"broken", "budget"}
    with pytest.raises(BudgetError, match=r"smallest strength brings the mean brokenness .* to 0.3; at most 0.15"):
        search(0.01, 9.0, STEADY, limits, answer=breaking(lambda s: 0.0, mean=lambda s: 0.3))


def test_no_strength_is_answered_at_twice():
    asked: list[list[float]] = []
    search(0.01, 9.0, STEADY, AT_MOST_A_TENTH, answer=breaking(lambda s: 0.4 if s > 1 else 0.05, asked))
    strengths = [strength for together in asked for strength in together]
    assert len(set(strengths)) == len(strengths) > 4


def test_it_ends_where_the_last_allowed_strength_is_near_the_first_that_is_not():
    """Of a limit other than the budget nothing can be interpolated: a tenth is near enough."""
    log: list[float] = []
    search(0.01, 9.0, aiming(hill, log), Limits(budget=None, target=None, least_reference=-1.0), rounds=20)
    assert len(log) <= 16


def test_a_budget_is_spent_however_steeply_the_damage_rises():
    steep = measured(lambda s: 0.01 * s + max(0.0, 10 * (s - 1)), lambda s: -s)
    best, _ = search(0.01, 9.0, steep, Limits(budget=0.5, target=None), rounds=20)
    assert 0.45 < best.divergence <= 0.5


def test_what_reaches_the_target_is_better_than_what_falls_short_of_it_at_less_damage():
    limits = Limits(budget=None, target=-2.0, target_required=False)
    short, reaching, dear = (
        Trial(1.0, None, damage, 0.0, margin) for damage, margin in ((1.0, -1.0), (2.0, -2.5), (3.0, -4.0))
    )
    assert better(short, reaching, limits) is better(reaching, short, limits) is reaching
    assert better(dear, reaching, limits) is better(reaching, dear, limits) is reaching
    free = Limits(budget=None, target=None)
    assert better(reaching, dear, free) is dear


def test_a_share_at_its_limit_is_allowed_whatever_rounding_makes_of_it():
    eight_of_ten = Trial(1.0, None, 1.0, 0.0, -1.0, 0.0, 0.8)
    assert 0.7 + 0.1 < 0.8
    assert Limits(None, None, max_degenerate=0.7 + 0.1).allows(eight_of_ten)
    assert not Limits(None, None, max_degenerate=0.79).allows(eight_of_ten)


def test_without_a_limit_no_answers_are_asked_for():
    best, _ = search(0.01, 9.0, STEADY, Limits(budget=4.0, target=None), answer=breaking(lambda s: 1.0))
    assert best.degenerate is None


def test_where_every_dose_breaks_answers_it_is_said():
    with pytest.raises(BudgetError, match=r"smallest strength makes 50% of the answers .* degenerate; at most 10%"):
        search(0.01, 9.0, STEADY, AT_MOST_A_TENTH, answer=breaking(lambda s: 0.5))


def test_a_target_under_which_answers_break_is_not_reached():
    limits = Limits(budget=None, target=-2.0, max_degenerate=0.1)
    best, _ = search(0.01, 9.0, STEADY, limits, answer=breaking(lambda s: 0.0))
    assert 2.0 <= best.strength < 2.2
    with pytest.raises(BudgetError, match=r"A margin of -2 makes 50% of the answers .* degenerate; at most 10%"):
        search(0.01, 9.0, STEADY, limits, answer=breaking(lambda s: 0.5 if s > 1 else 0.0))
    short = Limits(budget=None, target=-2.0, target_required=False, max_degenerate=0.1)
    best, _ = search(0.01, 9.0, STEADY, short, answer=breaking(lambda s: 0.5 if s > 1 else 0.0))
    assert 0.7 < best.strength <= 1.0


def test_of_what_reaches_the_target_that_within_the_limits_is_taken():
    """The least damage that reaches it is beyond a limit, a little more is not."""
    trials = [Trial(1.0, None, 1.0, 0.0, -3.0, 0.0, 0.5), Trial(2.0, None, 2.0, 0.0, -4.0, 0.0, 0.1)]
    assert Limits(None, -2.0, max_degenerate=0.1).best(trials) is trials[1]
