"""The options of the one neuron, scaled: every default in one place. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field

from neurodial.errors import OptionError
from neurodial.methods.base import check_search, prompt_list_names
from neurodial.options import noted
from neurodial.prompts.answered import MarginKind
from neurodial.prompts.pairs import Direction


@dataclass(frozen=True)
class Single:
    """The one neuron that takes most of a behaviour away (or brings most of it) within a budget, with its dose.

    Candidates are those of arXiv 2605.08513. The paper pins a neuron to a value, which `single_neuron` does; here it
    is multiplied by `1 - dose`, so that the circuit can be dialled, compared and exported as any other.

    Attributes:
        candidates: how many neurons are searched, the best by their slope and the gap between the sides' means.
        layers: the share of the layers that candidates come from, from the first; the paper takes two thirds.
        budget: damage in nats per token (KL on neutral answers) that the circuit may do at dial 1; none for no limit.
        margin_target: the mean margin wanted on the development prompts at dial 1, or none.
        direction: `remove` the behaviour, or `induce` it where it is absent.
        x_max: the largest dose; past 1 a neuron's sign is turned.
        margin: what is pushed. `alternatives`: towards how answers without the behaviour begin; `openers`: away from
            (or to induce, towards) how the behaviour's answers begin; `spans`: away from (or towards) what those
            answers say anywhere; `answer`: whole answers given with the prompts; `own-answers`: from the model's own
            answers towards those to the other prompts of the pairs. `behaviour`: as the prompt set says, else the
            first of these that tells development answers apart nearly as well as the best.
        neutral: list of neutral prompts for the damage, a name or a file.
        passages: how many neutral prompts are answered for the damage; none for all.
        answer_tokens: longest answer to a neutral or a development prompt.
        max_degenerate: how many more of the answers to the development prompts may have broken down (loops, gibberish,
            nothing said) than without steering, as a share; none: any.
        max_broken: how far the mean brokenness of those answers may rise over the unsteered model's, where 0.5 is an
            answer at the limit of a loop or of gibberish: finer than max_degenerate; none: any. Without either limit no
            answers are generated.
        system: a system message before every prompt.

    Raises:
        OptionError: a number makes no sense.
        UnknownNameError: there is no such direction or margin.

    Example:
        >>> import neurodial as nd
        >>> nd.Single(budget=0.02).x_max
        9.0
    """

    candidates: int = 5
    layers: float = 2 / 3
    budget: float | None = 0.05
    margin_target: float | None = None
    direction: Direction = "remove"
    x_max: float = 9.0
    margin: MarginKind = "behaviour"
    neutral: str = field(default="neutral", metadata=noted(listed=prompt_list_names))
    passages: int | None = None
    answer_tokens: int = 48
    max_degenerate: float | None = None
    max_broken: float | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        check_search(self)
        if self.candidates < 1:
            raise OptionError(f"The number of candidates is {self.candidates}.", wanted="at least 1")
        if not 0 < self.layers <= 1:
            raise OptionError(f"The share of the layers is {self.layers}.", wanted="more than 0 and at most 1")
