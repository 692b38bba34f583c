"""The options of Dose (effect and cost), with every default in one place. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from neurodial.circuit.selection import SELECT_SPELLING, Fraction, Select
from neurodial.errors import OptionError
from neurodial.methods.base import check_choices, check_search, prompt_list_names
from neurodial.options import noted
from neurodial.prompts.answered import MarginKind
from neurodial.prompts.pairs import Direction

DoseSign = Literal["tuned", "positive", "negative", "both"]
Dosing = Literal["closed", "uniform"]


@dataclass(frozen=True)
class Dose:
    """Effect and cost: the neurons that hold a behaviour up, chosen per unit of damage, each with its own dose.

    How far the doses go is found by measuring on the development prompts: as far as the budget allows, or just far
    enough for the target. With a target and a budget, the budget is a limit. With neither, the doses go as far as it
    takes until the prompts that show the behaviour have the margin of those that do not.

    Attributes:
        budget: damage in nats per token (KL on neutral answers) that the circuit may do at dial 1; none for no limit.
        margin_target: the mean margin wanted on the development prompts at dial 1, or none.
        direction: `remove` the behaviour, or `induce` it where it is absent.
        select: the rule of selection: which neurons are taken, by what they gain for what they cost.
        sign: `positive`: only neurons that hold the behaviour up take part, turned down; `negative`: only those that
            hold it down, turned up; `both`; `tuned`: positive and both are both tried, and what goes further on the
            development prompts is kept.
        x_max: the largest dose; past 1 a neuron's sign is turned.
        dosing: `closed`, each neuron's dose from its own effect and cost; `uniform`, one dose for all.
        margin: what is pushed. `alternatives`: towards how answers without the behaviour begin; `openers`: away from
            (or to induce, towards) how the behaviour's answers begin; `spans`: away from (or towards) what those
            answers say anywhere; `answer`: whole answers given with the prompts; `own-answers`: from the model's own
            answers towards those to the other prompts of the pairs. `behaviour`: as the prompt set says, else the
            first of these that tells development answers apart nearly as well as the best.
        neutral: list of neutral prompts for the damage, a name or a file.
        passages: how many neutral prompts are answered for the cost, and as many for the damage; none for all.
        answer_tokens: longest answer to a neutral or a development prompt.
        draws: labels drawn for each token of the neutral answers.
        max_degenerate: how many more of the answers to the development prompts may have broken down (loops, gibberish,
            nothing said) than without steering, as a share; none: any.
        max_broken: how far the mean brokenness of those answers may rise over the unsteered model's, where 0.5 is an
            answer at the limit of a loop or of gibberish: finer than max_degenerate; none: any. Without either limit no
            answers are generated.
        fit: gradient steps, at most, that refine the doses which effect and cost give, on the true margin and the
            measured damage; development prompts say when to stop. Each costs two forward and two backward passes; 0 for
            none.
        skip_layers: layers left out, such as 0,1.
        folds: number of prompt folds for the stability measure; 0 for none.
        seed: of the sampled labels.
        system: a system message before every prompt.

    Example:
        >>> import neurodial as nd
        >>> nd.Dose(budget=0.02, select=nd.Count(10)).x_max
        3.0
    """

    budget: float | None = 0.05
    margin_target: float | None = None
    direction: Direction = "remove"
    select: Select = field(default_factory=Fraction, metadata=noted(spelling=SELECT_SPELLING))
    sign: DoseSign = "tuned"
    x_max: float = 3.0
    dosing: Dosing = "closed"
    margin: MarginKind = "behaviour"
    neutral: str = field(default="neutral", metadata=noted(listed=prompt_list_names))
    passages: int | None = None
    answer_tokens: int = 48
    draws: int = 2
    max_degenerate: float | None = None
    max_broken: float | None = None
    fit: int = 0
    skip_layers: tuple[int, ...] = ()
    folds: int = 10
    seed: int = 0
    system: str | None = None

    def __post_init__(self) -> None:
        check_search(self)
        check_choices(self, sign=DoseSign, dosing=Dosing)
        if self.fit < 0:
            raise OptionError(f"fit is {self.fit}.", wanted="a number of steps, such as 30, or 0 for none")
        if self.draws < 1:
            raise OptionError(f"draws is {self.draws}.", wanted="at least 1")
        if self.folds < 0 or self.folds == 1:
            raise OptionError(f"The number of folds is {self.folds}.", wanted="0 for none, or 2 and more")
