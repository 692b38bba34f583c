"""The limits of a method's strength, its target, and what was measured at one strength.

Four limits, each against the unsteered model on the development split: damage on neutral answers; reference answers,
where the margin knows any, must become no less likely; generated answers must not be degenerate more often, nor be more
broken on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from neurodial.errors import BudgetError
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.prompts.pairs import Direction

LimitName = Literal["budget", "reference", "degenerate", "broken"]

_ROUNDING = 1e-9  # the limits on answers are sums of two means


class AnswersBroken(NamedTuple):
    """How broken the answers to the development prompts are at one strength.

    Attributes:
        degenerate: the share that is degenerate.
        broken: mean brokenness, from 0 to 1 (`text/degeneration.py`).
    """

    degenerate: float
    broken: float


@dataclass(frozen=True)
class Trial:
    """What was measured at one strength.

    Attributes:
        strength: the strength on the path.
        intervention: at that strength; None for the unsteered model.
        divergence: mean KL in nats per token on neutral answers.
        error: standard error of that.
        margin: mean margin on the development prompts that the direction is about.
        reference: mean log-likelihood per token of the reference answers, where the margin knows any.
        degenerate: share of degenerate answers to those prompts; None: no answers were generated.
        broken: mean brokenness of those answers.
    """

    strength: float
    intervention: Intervention | None
    divergence: float
    error: float
    margin: float
    reference: float = 0.0
    degenerate: float | None = None
    broken: float | None = None


@dataclass(frozen=True)
class Limits:
    """What a strength should reach, and what it may cost.

    Attributes:
        budget: the greatest divergence allowed, or None.
        target: the margin to reach, or None.
        direction: whether the margin should fall (remove) or rise (induce).
        target_required: an unmet target is an error; otherwise the best margin is taken.
        least_reference: reference answers must be at least this likely; None for no limit.
        max_degenerate: the greatest share of degenerate answers; None for no limit.
        max_broken: the greatest mean brokenness of the answers; None for no limit.
    """

    budget: float | None
    target: float | None
    direction: Direction = "remove"
    target_required: bool = True
    least_reference: float | None = None
    max_degenerate: float | None = None
    max_broken: float | None = None

    @property
    def need_answers(self) -> bool:
        """Whether the model must answer before it is known that they are kept."""
        return self.max_degenerate is not None or self.max_broken is not None

    def meets_target(self, trial: Trial) -> bool:
        """Whether the margin has reached the target."""
        return self.target is not None and self.distance(trial) <= 0

    def allows(self, trial: Trial) -> bool:
        """Whether every limit is kept, as far as was measured."""
        return self.exceeded(trial) is None

    def exceeded(self, trial: Trial) -> LimitName | None:
        """The first limit that is not kept."""
        if self.budget is not None and trial.divergence > self.budget:
            return "budget"
        if self.least_reference is not None and trial.reference < self.least_reference:
            return "reference"
        if self.max_degenerate is not None and (trial.degenerate or 0.0) > self.max_degenerate + _ROUNDING:
            return "degenerate"
        if self.max_broken is not None and (trial.broken or 0.0) > self.max_broken + _ROUNDING:
            return "broken"
        return None

    def distance(self, trial: Trial) -> float:
        """How far the margin is from the target (from 0 where there is none); less is better."""
        return self.distance_at(trial.margin)

    def distance_at(self, margin: float) -> float:
        """The same for a margin, such as a predicted one."""
        sign = 1.0 if self.direction == "remove" else -1.0
        return sign * (margin - (self.target or 0.0))

    def best(self, trials: Sequence[Trial]) -> Trial:
        """The trial with the best margin within the limits; if some of these reach the target, the one of least damage.

        Raises:
            BudgetError: a limit is exceeded even by the smallest strength, or by every trial that reaches the target;
                or no trial reaches it.
        """
        allowed = [trial for trial in trials if self.allows(trial)]
        reaching = [trial for trial in trials if self.meets_target(trial)]
        met = [trial for trial in reaching if self.allows(trial)]
        if met:
            return min(met, key=lambda trial: trial.divergence)
        if self.target is not None and self.target_required:
            if reaching:
                raise self._limit_error(
                    min(reaching, key=lambda trial: trial.divergence), f"A margin of {self.target:g}", "s"
                )
            raise self._out_of_reach(min(trials, key=self.distance))
        if not allowed:
            raise self._limit_error(min(trials, key=lambda trial: trial.divergence), "Even the smallest strength", "s")
        return min(allowed, key=lambda trial: (self.distance(trial), trial.divergence))

    def _limit_error(self, trial: Trial, subject: str, ending: str) -> BudgetError:
        """The error that says which limit is exceeded; `ending` is the verb's."""
        match self.exceeded(trial):
            case "reference":
                return BudgetError(
                    f"{subject} make{ending} the reference answers less likely than in the unsteered model: "
                    f"{trial.reference:.3g} nats per token against {self.least_reference:.3g}.",
                    wanted="doses that lead to those answers, and not to bad text",
                    fix="Ask for less of the margin, take more neurons, or another margin.",
                )
            case "degenerate":
                return BudgetError(
                    f"{subject} make{ending} {trial.degenerate:.0%} of the answers to the development prompts "
                    f"degenerate; at most {self.max_degenerate:.0%} may be.",
                    wanted="doses under which the model still answers",
                    fix="Allow more (max_degenerate), take more neurons, or ask for less of the margin.",
                )
            case "broken":
                return BudgetError(
                    f"{subject} bring{ending} the mean brokenness of the answers to the development prompts to "
                    f"{trial.broken:.3g}; at most {self.max_broken:.3g} is allowed.",
                    wanted="doses under which the model still answers",
                    fix="Allow more (max_broken), take more neurons, or ask for less of the margin.",
                )
        return BudgetError(
            f"{subject} cost{ending} {trial.divergence:.3g} nats per token on neutral answers; the budget is "
            f"{self.budget:g}.",
            wanted=f"a budget of at least {trial.divergence:.3g}",
            fix="Raise the budget, take fewer neurons, or ask for less of the margin.",
        )

    def _out_of_reach(self, trial: Trial) -> BudgetError:
        furthest = f"a strength of {trial.strength:.3g}"
        if isinstance(trial.intervention, Scale):
            doses = [abs(row.dose) for row in trial.intervention.circuit]
            furthest = f"{len(doses)} neurons at doses up to {max(doses):.3g}"
        return BudgetError(
            f"The margin on the development prompts comes to {trial.margin:.3g}, not to {self.target:g}, with "
            f"{furthest} ({trial.divergence:.3g} nats per token).",
            wanted="a target that these neurons can reach",
            fix="Take more neurons, a larger x_max, or a nearer target.",
        )


def better(first: Trial, second: Trial, limits: Limits) -> Trial:
    """The better of two trials that both keep the limits: by damage where there is a target, else by margin."""
    if limits.meets_target(first) and limits.meets_target(second):
        return min(first, second, key=lambda trial: trial.divergence)
    return min(first, second, key=limits.distance)
