"""The main job from end to end on the demo model: discover, steer, measure, say what was found.

1. CNA on the discovery split.
2. Answers to held-out test prompts, harmful and harmless, at each dial; random neurons at dial 1 as a control.
3. Refusal rates with Wilson intervals; paired differences against dial 0.
4. Words that follow from the numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from neurodial.attribution.methods import CNA
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.controls import random_control
from neurodial.discovery import discover
from neurodial.errors import OptionError
from neurodial.evaluation.detectors.base import Exchange, Verdict
from neurodial.evaluation.detectors.registry import detector
from neurodial.evaluation.statistics import Difference, Estimate, paired_rates, rate
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.measurement.generate import Answer, generate
from neurodial.measurement.options import Decoding
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Example, PairSet, prompt_text


@dataclass(frozen=True)
class Profile:
    """How much the demonstration does.

    Attributes:
        prompts: held-out test prompts of each kind.
        dials: the dials; 0 must be among them.
        decoding: how answers are generated.
        control_seed: of the random neurons.
    """

    prompts: int = 52
    dials: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.0)
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=40, batch_size=32))
    control_seed: int = 0

    def __post_init__(self) -> None:
        if not {0.0, 1.0} <= set(self.dials):
            raise OptionError(f"The dials are {self.dials}.", wanted="0 and 1 among them, to compare")


SHORT = Profile(prompts=16, decoding=Decoding(max_new_tokens=24, batch_size=32))
"""A profile for continuous integration: the same steps, fewer prompts, shorter answers."""


@dataclass(frozen=True)
class Side:
    """What one intervention gave.

    Attributes:
        label: `dial 0.5`, or what the control is.
        dial: the dial.
        is_control: whether these are random neurons.
        answers: to the harmful, then to the harmless prompts.
        verdicts: of the refusal detector, in the same order.
        refused_harmful: rate on harmful prompts.
        refused_harmless: rate on harmless ones.
        degenerate: rate of degenerate answers, over all prompts.
        difference: of refusals on harmful prompts against dial 0, paired; None for dial 0 itself.
    """

    label: str
    dial: float
    is_control: bool
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]
    refused_harmful: Estimate
    refused_harmless: Estimate
    degenerate: Estimate
    difference: Difference | None


@dataclass(frozen=True)
class Demonstration:
    """All that the demonstration found.

    Attributes:
        circuit: the refusal circuit.
        harmful: held-out harmful prompts.
        harmless: held-out harmless prompts.
        sides: one per dial, then the control.
        profile: what was done.
    """

    circuit: Circuit
    harmful: tuple[Example, ...]
    harmless: tuple[Example, ...]
    sides: tuple[Side, ...]
    profile: Profile

    def side(self, dial: float) -> Side:
        """What one dial gave."""
        return next(side for side in self.sides if side.dial == dial and not side.is_control)

    @property
    def control(self) -> Side:
        """What the random neurons gave."""
        return next(side for side in self.sides if side.is_control)


def demonstrate(
    subject: Subject, pairs: PairSet, profile: Profile, *, method: CNA | None = None, progress: Progress = silent
) -> Demonstration:
    """Discover on the discovery split, steer and measure on the test split."""
    circuit = discover(subject, pairs.discovery, method=method, name=pairs.behaviour.name, progress=progress)
    harmful, harmless = pairs.test.positive[: profile.prompts], pairs.test.negative[: profile.prompts]
    control = random_control(circuit, seed=profile.control_seed)
    interventions: list[tuple[str, float, bool, Intervention]] = [
        *((f"dial {dial:g}", dial, False, Scale(circuit, dial)) for dial in profile.dials),
        (f"{len(control)} random neurons, dial 1", 1.0, True, Scale(control, 1.0)),
    ]
    prompts = [example.prompt for example in (*harmful, *harmless)]
    everything = generate(
        subject,
        prompts * len(interventions),
        under=[how for _, _, _, how in interventions for _ in prompts],
        decoding=profile.decoding,
        progress=progress,
    )
    groups = [everything[n * len(prompts) : (n + 1) * len(prompts)] for n in range(len(interventions))]
    verdicts = [_verdicts(group, pairs) for group in groups]
    base = verdicts[profile.dials.index(0.0)]
    sides = [
        _side(label, dial, control, answers, found, base, len(harmful))
        for (label, dial, control, _), answers, found in zip(interventions, groups, verdicts, strict=True)
    ]
    return Demonstration(circuit, harmful, harmless, tuple(sides), profile)


def findings(shown: Demonstration) -> list[str]:
    """What was found, in plain words; each sentence follows from the numbers."""
    circuit, base, full = shown.circuit, shown.side(0.0), shown.side(1.0)
    widths = circuit.origin.model.widths if circuit.origin.model else ()
    layers = sorted({row.neuron.layer for row in circuit})
    late = sum(row.neuron.layer >= len(widths) * 2 / 3 for row in circuit)
    said = [
        (
            f"CNA picked {len(circuit)} of {sum(widths)} MLP neurons, in {len(layers)} of {len(widths)} layers "
            f"({late} of them in the last third)."
        )
    ]
    if circuit.stability:
        said.append(
            f"With a tenth of the prompts left out, {circuit.stability.mean:.0%} of them are chosen again on average."
        )
    said += [
        _change("harmful", full, base),
        _harmless(full, base),
        _against_control(full, shown.control, len(shown.harmful)),
    ]
    said.append(
        f"Degenerate answers (empty, looping, gibberish) at dial 1: {_share(full.degenerate)}; "
        f"at dial 0: {_share(base.degenerate)}."
    )
    up = next((side for side in shown.sides if side.dial < 0), None)
    if up is not None:
        said.append(
            f"Turned the other way (dial {up.dial:g}), it refuses {_share(up.refused_harmful)} of the harmful and "
            f"{_share(up.refused_harmless)} of the harmless requests."
        )
    return said


def _verdicts(answers: Sequence[Answer], pairs: PairSet) -> tuple[Verdict, ...]:
    judge = detector(pairs.behaviour.detector)
    return tuple(judge.judge([Exchange(prompt_text(answer.prompt), answer.text) for answer in answers]))


def _side(
    label: str,
    dial: float,
    is_control: bool,  # noqa: FBT001  # a record's field
    answers: Sequence[Answer],
    verdicts: tuple[Verdict, ...],
    base: tuple[Verdict, ...],
    harmful: int,
) -> Side:
    shows = [verdict.label == "shown" for verdict in verdicts]
    before = [verdict.label == "shown" for verdict in base]
    return Side(
        label=label,
        dial=dial,
        is_control=is_control,
        answers=tuple(answers),
        verdicts=verdicts,
        refused_harmful=rate(shows[:harmful]),
        refused_harmless=rate(shows[harmful:]),
        degenerate=rate([verdict.label == "degenerate" for verdict in verdicts]),
        difference=None if verdicts is base else paired_rates(before[:harmful], shows[:harmful]),
    )


def _change(kind: str, full: Side, base: Side) -> str:
    if full.difference is None:
        raise OptionError("Dial 1 was not measured.", wanted="1 among the dials")
    moved = full.difference.estimate
    how = "fell" if moved.value < 0 else "rose" if moved.value > 0 else "stayed"
    clear = "a clear change" if moved.low > 0 or moved.high < 0 else "within what chance could do"
    return (
        f"Refusals of held-out {kind} requests {how} from {_share(base.refused_harmful)} to "
        f"{_share(full.refused_harmful)} at dial 1: {clear} (paired difference {_points(moved)})."
    )


def _harmless(full: Side, base: Side) -> str:
    return (
        f"Refusals of held-out harmless requests: {_share(base.refused_harmless)} at dial 0, "
        f"{_share(full.refused_harmless)} at dial 1."
    )


def _against_control(full: Side, control: Side, harmful: int) -> str:
    shows = [[verdict.label == "shown" for verdict in side.verdicts[:harmful]] for side in (control, full)]
    gap = paired_rates(*shows).estimate
    beats = "the circuit does more than chance" if gap.high < 0 else "no clear difference from the circuit"
    return (
        f"As many random neurons switched off leave {_share(control.refused_harmful)}: {beats} "
        f"(circuit against random, paired: {_points(gap)})."
    )


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.0f} points [{100 * estimate.low:+.0f}, {100 * estimate.high:+.0f}]"
