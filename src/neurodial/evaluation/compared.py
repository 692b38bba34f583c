"""The other methods of a run: each at the strength that the one search gives it on the development split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from neurodial.errors import OptionError
from neurodial.evaluation.baselines import baselines
from neurodial.evaluation.conditions import Condition, baseline_conditions, circuits_of
from neurodial.evaluation.margin_of_run import direction_of
from neurodial.evaluation.measures import neutral_prompts
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.run_rows import TuningRow
from neurodial.evaluation.store import Store
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.margin import Margin
from neurodial.methods.comparators import COMPARATORS, MethodInputs
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Behaviour, PairSet, Split
from neurodial.prompts.passage import Passage
from neurodial.strength.development import Development


def needs_margin(names: Sequence[str]) -> bool:
    """Whether the strength of any of these methods is searched by a margin."""
    return any(COMPARATORS[name].needs == "margin" for name in names)


@dataclass(frozen=True)
class ComparedMethods:
    """What other methods are made from and searched on; what is costly is made when it is first needed.

    Attributes:
        subject: the model.
        pairs: the prompts; vectors and scores come from the discovery split, strengths from the development split.
        behaviour: what is removed or induced.
        own: the user's own conditions: their dials are taken, and their first circuit is what controls match.
        options: how much is measured, and the limits.
        margin: what strengths are searched by.
        progress: shown while it runs.
    """

    subject: Subject
    pairs: PairSet
    behaviour: Behaviour
    own: Sequence[Condition]
    options: Evaluation
    margin: BehaviourMargin | None
    progress: Progress = silent
    _answers: dict[Split, tuple[Passage, ...]] = field(default_factory=dict, repr=False)

    def conditions(self, names: Sequence[str], store: Store) -> list[Condition]:
        """Every method at every dial of the user's own; what a search chose stands in the store.

        Raises:
            OptionError: a method needs a circuit that is not there.
        """
        dials = sorted({condition.dial for condition in self.own}) or [1.0]
        chosen_before = {row.method: row.details for row in store.rows(TuningRow)}
        conditions: list[Condition] = []
        for name in names:
            known = chosen_before.get(name)
            searched = COMPARATORS[name].needs == "margin"
            development = self.development if searched and known is None else None
            ready = baselines(name, self.inputs, development, self.options.kl_limit, known=known)
            if searched and known is None:
                store.append([TuningRow(name, ready[0].details)])
            conditions += [condition for baseline in ready for condition in baseline_conditions(baseline, dials)]
        return conditions

    @cached_property
    def inputs(self) -> MethodInputs:
        """What methods are made from."""
        circuits = circuits_of([c.intervention for c in self.own if c.intervention is not None])
        return MethodInputs(
            self.subject,
            self.pairs.discovery,
            self.behaviour,
            self._pushed,
            lambda: self._neutral("discovery"),
            direction_of(circuits),
            circuits[0] if circuits else None,
            seeds=self.options.seeds,
            system=self.options.decoding.system,
        )

    @cached_property
    def development(self) -> Development:
        """What strengths are searched on."""
        options, direction = self.options, self.inputs.direction
        return Development(
            self.subject,
            self._pushed(),
            self.pairs.development.about(direction)[: options.development],
            self._neutral("development"),
            direction=direction,
            max_degenerate=options.max_degenerate,
            max_broken=options.max_broken,
            answer_tokens=options.divergence_tokens,
            system=options.decoding.system,
            progress=self.progress,
        )

    def _pushed(self) -> Margin:
        if self.margin is None:
            raise OptionError("There is no margin to search a strength by.", wanted="a behaviour that has one")
        return self.margin.pushed

    def _neutral(self, split: Split) -> tuple[Passage, ...]:
        """The model's own answers to the neutral prompts of a split."""
        if split not in self._answers:
            options = self.options
            decoding = Decoding(
                max_new_tokens=options.divergence_tokens,
                batch_size=options.decoding.batch_size,
                system=options.decoding.system,
            )
            prompts = neutral_prompts(split, options.development)
            self._answers[split] = tuple(own_answers(self.subject, prompts, decoding=decoding, progress=self.progress))
        return self._answers[split]
