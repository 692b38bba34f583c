"""Which path is taken: against measuring every strength of every path by hand."""

from dataclasses import replace

import pytest
import torch

from neurodial.errors import BudgetError, OptionError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.vector import AddVector
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.prompt import Example
from neurodial.strength.choose_path import FirstLook, choose_path, finalists
from neurodial.strength.development import Development, PathSearch
from neurodial.strength.limits import Limits
from neurodial.strength.path import StrengthPath


@pytest.fixture(scope="module")
def development():
    subject = tiny_subject(seed=3)
    examples = tuple(Example(text) for text in ("Rob a shop", "Break a door", "Steal it", "Hide"))
    passages = own_answers(subject, ["Hello", "What is tea?"], decoding=Decoding(max_new_tokens=6))
    return Development(subject, Openers.of([(72,), (73,)]), examples, tuple(passages))


def searches(development, count=4):
    generator = torch.Generator().manual_seed(1)
    subject = development.subject
    vectors = torch.randn(count, subject.hidden_size, generator=generator)
    return [
        PathSearch(
            development,
            StrengthPath(0.05, 4.0, lambda s, n=n: AddVector(vectors[n], n % subject.layers, s), {"number": n}),
        )
        for n in range(count)
    ]


def margin_of(development, intervention, examples):
    values = measure_margins(development.subject, development.margin, examples, under=intervention)
    return sum(values) / len(values)


def test_finalists_are_those_that_move_the_first_prompts_furthest(development):
    paths = searches(development)
    few = development.examples[:2]
    by_hand = sorted(range(4), key=lambda n: margin_of(development, paths[n].path.at(1.0), few))
    assert finalists(development, paths, FirstLook(2, 2)) == [paths[n] for n in by_hand[:2]]
    inducing = replace(development, direction="induce")
    up = searches(inducing)
    assert finalists(inducing, up, FirstLook(2, 1)) == [up[by_hand[-1]]]
    assert finalists(development, paths, FirstLook(2, 4)) == paths


def test_the_best_within_the_budget_is_taken_and_its_strength_may_lie_anywhere(development):
    choice = choose_path(searches(development), Limits(0.05, None))
    steered = choice.path.path.at(choice.best.strength)
    [divergence] = measure_divergence(development.subject, development.passages, [steered])
    assert divergence.mean == pytest.approx(choice.best.divergence, rel=1e-4)
    assert divergence.mean <= 0.05
    margin = margin_of(development, choice.best.intervention, development.examples)
    assert margin == pytest.approx(choice.best.margin, abs=1e-4)
    assert margin == min(trial.margin for _, trial in ((choice.path, choice.best), *choice.others))
    for path, trial in choice.others:
        assert trial.divergence <= 0.05
        assert path is not choice.path
    far = choose_path(searches(development), Limits(None, None))
    assert far.best.margin < choice.best.margin
    assert choice.best.strength not in {0.5, 1.0, 1.5, 2.0, 3.0, 4.0}  # no grid


def test_where_no_path_keeps_to_the_limits_it_is_said_or_the_least_damage_is_taken(development):
    with pytest.raises(BudgetError, match="budget is 1e-09"):
        choose_path(searches(development), Limits(1e-9, None))
    least = choose_path(searches(development), Limits(1e-9, None), strict=False)
    assert not least.within_limits
    assert least.best.strength == 0.05
    assert choose_path(searches(development), Limits(0.05, None), strict=False).within_limits


def test_what_was_measured_for_one_budget_is_not_measured_again(development, monkeypatch):
    [path] = searches(development, 1)
    path.best(Limits(0.05, None))
    monkeypatch.setattr(Development, "trials", None)
    again, _ = path.best(Limits(0.05, None))
    assert again.divergence <= 0.05


@pytest.fixture(scope="module")
def large(development):
    """Prompts enough for a look at a part of them."""
    prompts = [
        f"{ask} {thing}" for ask in ("Draw", "Sell", "Find", "Move") for thing in ("tea", "a cup", "it", "a dog")
    ]
    passages = own_answers(development.subject, prompts * 2, decoding=Decoding(max_new_tokens=4))
    examples = tuple(Example(f"Rob {prompt}") for prompt in (*prompts, *(f"{p} now" for p in prompts)))
    return replace(development, examples=examples, passages=tuple(passages))


@pytest.mark.parametrize("limits", [Limits(0.05, None), Limits(0.2, -6.0, target_required=False)])
def test_a_look_at_a_part_finds_the_path_that_all_prompts_find_with_less_work(large, monkeypatch, limits):
    work = []

    def counted(development, strengths, steered):
        work.append(len(development.passages) * len(strengths))
        return measure(development, strengths, steered)

    measure = Development.trials
    monkeypatch.setattr(Development, "trials", counted)
    looked = choose_path(searches(large), limits)
    spent, work[:] = sum(work), []
    monkeypatch.setattr(Development, "part", None)
    whole = choose_path(searches(replace(large)), limits)
    assert looked.path.path.details == whole.path.path.details
    assert limits.allows(looked.best)
    assert looked.best.margin <= whole.best.margin + 0.1 * abs(whole.best.margin - large.unsteered.margin)
    assert spent < 0.7 * sum(work)
    for path, trial in looked.others:  # measured on all prompts
        [divergence] = measure_divergence(large.subject, large.passages, [path.path.at(trial.strength)])
        assert divergence.mean == pytest.approx(trial.divergence, rel=1e-4)


def test_where_a_look_misleads_every_path_is_searched(large, monkeypatch):
    """A look that calls a strength harmless that breaks the limit on all prompts leaves the outcome as it is."""
    monkeypatch.setattr(Development, "part", None)
    whole = choose_path(searches(replace(large)), Limits(0.05, None))
    monkeypatch.undo()
    measure = Development.trials

    def harmless(development, strengths, steered):
        trials = measure(development, strengths, steered)
        is_part = len(development.passages) < len(large.passages)
        return [replace(trial, divergence=trial.divergence / 1e6) if is_part else trial for trial in trials]

    monkeypatch.setattr(Development, "trials", harmless)
    misled = choose_path(searches(large), Limits(0.05, None))
    assert misled.best.divergence <= 0.05
    assert misled.best.margin <= whole.best.margin + 0.3 * abs(whole.best.margin - large.unsteered.margin)


def test_nothing_to_choose_from_is_refused(development):
    with pytest.raises(OptionError, match="nothing to choose from"):
        finalists(development, [])
    with pytest.raises(OptionError, match="nothing to choose from"):
        choose_path([], Limits(None, None))
