"""How a pair is trained. Torch-free: the command line reads this too."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import OptionError


@dataclass(frozen=True)
class Training:
    """How a verbaliser and a reconstructor are trained.

    Attributes:
        layer: the block whose output they are about, from 0; by default the one at two thirds of the depth.
        chat: read each text as a user's message instead of as plain text.
        context: tokens of a text that are read.
        per_text: tokens of a text whose activations are learned.
        skip: tokens at the start of a text that are left out.
        before: tokens of the text up to the activation's that its words are made of.
        after: tokens after it.
        neighbour: how far away the token is whose text is a control.
        held_out: share of the texts that nothing is learned from.
        steps: of either model.
        batch_size: activations of a step.
        rate: the learning rate.
        reinforce: steps after those in which the verbaliser learns from how well its own words are rebuilt; 0 for none.
        draws: texts that are sampled about each activation there.
        rank: of the LoRA on all linear maps.
        judged: held-out activations that the report is made from.
        save_every: steps after which the state is kept, for a run that goes on.
        seed: of the split, the tokens, the order and the LoRA.

    Raises:
        OptionError: a number makes no sense.

    Example:
        >>> Training(steps=10).rank
        16
    """

    layer: int | None = None
    chat: bool = False
    context: int = 256
    per_text: int = 4
    skip: int = 10
    before: int = 8
    after: int = 0
    neighbour: int = 8
    held_out: float = 0.1
    steps: int = 1000
    batch_size: int = 8
    rate: float = 3e-4
    reinforce: int = 0
    draws: int = 4
    rank: int = 16
    judged: int = 64
    save_every: int = 100
    seed: int = 0

    @property
    def answer_tokens(self) -> int:
        """The longest words: those of a text, their tags, and room for other tokens."""
        return 2 * (self.before + self.after) + 24

    def __post_init__(self) -> None:
        least = {"context": 2, "per_text": 1, "skip": 0, "before": 1, "after": 0, "neighbour": 1, "steps": 1}
        least |= {"reinforce": 0, "draws": 2, "batch_size": 1, "rank": 1, "judged": 2, "save_every": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}.", wanted=f"{low} or more")
        if self.layer is not None and self.layer < 0:
            raise OptionError(f"layer is {self.layer}.", wanted="a block's number, from 0")
        if not 0 < self.held_out < 1:
            raise OptionError(f"held_out is {self.held_out}.", wanted="above 0 and below 1")
        if not 0 < self.rate < 1:
            raise OptionError(f"rate is {self.rate}.", wanted="above 0 and below 1")
