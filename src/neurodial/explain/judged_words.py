"""Words for a neuron, with how well they tell where it fires: never one without the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JudgedWords:
    """What a model said of a neuron, and the scores of that on places that it had not seen.

    Attributes:
        text: the explanation; empty where none came.
        model: who said it.
        shown: places that it was made from.
        detection: share of held-out places that a judge with only the words sorted rightly into firing and not.
        detection_low: lower end of the 95 % interval of that.
        detection_high: upper end.
        detection_n: how many places were judged; half of them fire.
        simulation: correlation of the activations that a judge with only the words foretold with the true ones.
        simulation_chance: what 95 % of the same guesses in random order stay below.
        simulation_n: over how many tokens.
        problems: answers that did not come or were not understood.
    """

    text: str
    model: str
    shown: int
    detection: float | None
    detection_low: float | None
    detection_high: float | None
    detection_n: int
    simulation: float | None
    simulation_chance: float | None
    simulation_n: int
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The scores in words, with what chance would score.

        Example:
            >>> JudgedWords("digits", "m", 8, 1.0, 0.7, 1.0, 8, None, None, 0).verdict
            'detection 100 % [70, 100] of 8 places (chance 50 %); simulation not scored'
        """
        parts = []
        if self.detection is None or self.detection_low is None or self.detection_high is None:
            parts.append("detection not scored")
        else:
            ends = f"[{100 * self.detection_low:.0f}, {100 * self.detection_high:.0f}]"
            parts.append(f"detection {100 * self.detection:.0f} % {ends} of {self.detection_n} places (chance 50 %)")
        if self.simulation is None or self.simulation_chance is None:
            parts.append("simulation not scored")
        else:
            parts.append(
                f"simulation r = {self.simulation:.2f} over {self.simulation_n} tokens "
                f"(chance below {self.simulation_chance:.2f})"
            )
        return "; ".join(parts)

    @property
    def is_scored(self) -> bool:
        """Whether there is anything to hold the words against; words without a score are not shown."""
        return self.detection is not None or self.simulation is not None
