"""Is a behaviour still there while a model is fine-tuned, and do the same neurons carry it?

1. At every n-th step the model is put into evaluation mode, without gradients; mode and random states are given back.
2. It answers some prompts, and a detector counts; or the behaviour's margin is measured.
3. One pass of contrastive attribution scores every neuron, as it is now.
4. From these scores: what the given circuit still carries, and how many of the neurons found first are found again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import Neuron
from neurodial.discovery import Found, find
from neurodial.errors import ModelMismatchError, OptionError
from neurodial.evaluation.detectors.base import UNCOUNTED, Detector, Exchange
from neurodial.evaluation.detectors.registry import detector
from neurodial.evaluation.intervals import Estimate, wilson
from neurodial.evaluation.watch_rows import WatchedStep, add_step, steps_svg, watched_steps
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.margins.behaviour_margin import recorded_margin
from neurodial.margins.margin import Margin
from neurodial.margins.measure import measure_margins
from neurodial.methods.cna.options import CNA
from neurodial.model.in_training import bare_model, borrowed
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.prompts.prompt import prompt_text
from neurodial.provenance import describe


@dataclass(frozen=True)
class Watching:
    """What a watch looks at.

    Attributes:
        detector: the name of a detector (`neurodial detectors`), or one of your own; by default the behaviour's own.
        prompts: at most this many prompts are answered, or their margins measured.
        decoding: how they are answered.
        method: how neurons are found.

    Example:
        >>> Watching(prompts=4).decoding.max_new_tokens
        32
    """

    detector: str | Detector | None = None
    prompts: int = 12
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=32))
    method: CNA = field(default_factory=lambda: CNA(folds=0))

    def __post_init__(self) -> None:
        if self.prompts < 1:
            raise OptionError(f"prompts is {self.prompts}.", wanted="at least 1")


class Watch:
    """Looks at a behaviour and its neurons while a model is trained, in any loop.

    Call it with the model and the step, after the optimizer's step. Neurons are found with the discovery split; rate
    and margin are measured on the development split, on the side that the behaviour's rate is measured on.

    Args:
        prompts: the behaviour's prompts; of a `Contrast` the same prompts serve for both.
        tokenizer: the model's.
        every: look at step 0 and at every so manieth; at the others a call does nothing.
        circuit: whose share is followed; by default the neurons found at the first look.
        margin: of your own; by default the one that the circuit records.
        options: how much is looked at.
        file: JSON lines, one row added for each look; a training that is resumed goes on with its rows.

    Raises:
        OptionError: nothing says how the behaviour is recognised: no detector, no margin.
        FileError: the file belongs to another watch.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_model, tiny_tokenizer
        >>> contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
        >>> options = nd.Watching(detector="refusal", decoding=nd.Decoding(max_new_tokens=2))
        >>> watch = nd.Watch(contrast, tiny_tokenizer(), every=2, options=options)
        >>> model = tiny_model().train()
        >>> for step in range(4):  # and in each, a step of the optimizer
        ...     row = watch(model, step)
        >>> [(row.step, row.overlap) for row in watch.rows], model.training
        ([(0, 1.0), (2, 1.0)], True)
    """

    def __init__(
        self,
        prompts: Contrast | PairSet,
        tokenizer: Any,
        *,
        every: int = 100,
        circuit: Circuit | None = None,
        margin: Margin | None = None,
        options: Watching | None = None,
        file: Path | str | None = None,
    ) -> None:
        if every < 1:
            raise OptionError(f"every is {every}.", wanted="at least 1")
        self.options = options or Watching()
        self._every, self._tokenizer, self._circuit = every, tokenizer, circuit
        self._behaviour = prompts.behaviour if isinstance(prompts, PairSet) else Behaviour("behaviour")
        self._found_on = prompts.split("discovery") if isinstance(prompts, PairSet) else prompts
        asked = prompts.split("development") if isinstance(prompts, PairSet) else prompts
        self._contrast = asked.first(self.options.prompts)
        self._asked = self._behaviour.sides(self._contrast)[0]
        self._detector = _detector(self.options, self._behaviour)
        self._margin = margin
        self._records_margin = margin is None and circuit is not None and circuit.origin.margin is not None
        if self._detector is None and margin is None and not self._records_margin:
            raise OptionError(
                "Nothing says how the behaviour is recognised.",
                wanted="a detector (Watching(detector=...)), a margin, or a circuit that records one",
                fix="`neurodial detectors` lists detectors.",
            )
        self._model: Any = None
        self._subject: Subject | None = None
        self._file = None if file is None else Path(file)
        self.rows: list[WatchedStep] = [] if self._file is None else watched_steps(self._file, self._header())

    def __call__(self, model: Any, step: int) -> WatchedStep | None:
        """Look at the model, if it is time to; the row is kept in `rows` too.

        Raises:
            LayoutError: no neurons are found in the model.
            ModelMismatchError: the circuit's neurons are not in the model.
            ActivationError: activations are not finite: the training has diverged.
        """
        if step % self._every or any(row.step == step for row in self.rows):
            return None
        return self.look(model, step)

    def look(self, model: Any, step: int) -> WatchedStep:
        """Look at the model now, whatever the step."""
        started = time.perf_counter()
        bare = bare_model(model)
        with borrowed(bare):
            subject = self._subject_of(bare)
            found = find(subject, self._found_on, method=self.options.method, name=self._behaviour.name)
            rate = self._rate(subject)
            margin = self._mean_margin(subject)
        neurons = tuple(row.neuron for row in found.circuit)
        first = self.rows[0].neurons if self.rows else neurons
        difference, share = self._carried(found, first)
        row = WatchedStep(
            step=step,
            rate=rate,
            margin=margin,
            difference=difference,
            share=share,
            overlap=len({*first} & {*neurons}) / len(first),
            by_chance=len(neurons) / found.scores.neurons,
            neurons=neurons,
            seconds=time.perf_counter() - started,
        )
        self.rows.append(row)
        if self._file is not None:
            add_step(self._file, row)
        return row

    def svg(self) -> str:
        """Rate, share and overlap against the step, as an SVG picture.

        Raises:
            OptionError: nothing was looked at yet.
        """
        if not self.rows:
            raise OptionError("Nothing was looked at yet.", wanted="a call with a model before")
        return steps_svg(self.rows)

    def trainer_callback(self) -> Any:
        """A callback for `transformers.Trainer`: looks before the first step, at every n-th, and at the end."""
        from transformers import TrainerCallback

        watch = self

        class WatchCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
            def on_train_begin(self, _args: Any, state: Any, _control: Any, *, model: Any, **_: Any) -> None:
                if state.is_world_process_zero:
                    watch(model, state.global_step)

            on_step_end = on_train_begin

            def on_train_end(self, _args: Any, state: Any, _control: Any, *, model: Any, **_: Any) -> None:
                if state.is_world_process_zero and all(row.step != state.global_step for row in watch.rows):
                    watch.look(model, state.global_step)

        return WatchCallback()

    def _subject_of(self, model: Any) -> Subject:
        """The model with its layout, measured once; its identity is always that of the weights as they are."""
        if self._subject is None or model is not self._model:
            self._model, self._subject = model, Subject.of(model, self._tokenizer, label=self._behaviour.name)
            if self._circuit is not None:
                _check_fits(self._circuit, self._subject)
            if self._records_margin and self._margin is None:
                self._margin = _recorded(self._circuit, self._subject, self._behaviour, self._contrast)
        return replace(self._subject)

    def _rate(self, subject: Subject) -> Estimate | None:
        if self._detector is None:
            return None
        prompts = [example.prompt for example in self._asked]
        answers = generate(subject, prompts, decoding=self.options.decoding)
        exchanges = [Exchange(prompt_text(answer.prompt), answer.text) for answer in answers]
        labels = [verdict.label for verdict in self._detector.judge(exchanges)]
        counted = [label for label in labels if label not in UNCOUNTED]
        return wilson(counted.count("shown"), len(counted))

    def _mean_margin(self, subject: Subject) -> float | None:
        if self._margin is None:
            return None
        return fmean(measure_margins(subject, self._margin, self._asked, system=self.options.decoding.system))

    def _carried(self, found: Found, first: Sequence[Neuron]) -> tuple[float, float]:
        """The mean size of the differences of the circuit's neurons, and their share of all differences."""
        followed = first if self._circuit is None else [row.neuron for row in self._circuit]
        sizes = [abs(float(found.scores[neuron.site][neuron.place])) for neuron in followed]
        return fmean(sizes), sum(sizes) / float(found.scores.flat().abs().sum())

    def _header(self) -> dict[str, Any]:
        return {
            "behaviour": self._behaviour.name,
            "prompts": [self._found_on.hash, self._contrast.hash],
            "circuit": None if self._circuit is None else [list(row.neuron) for row in self._circuit],
            "detector": None if self._detector is None else self._detector.name,
            "options": describe(replace(self.options, detector=None)),
        }


def _detector(options: Watching, behaviour: Behaviour) -> Detector | None:
    named = options.detector or behaviour.detector or None
    return detector(named) if isinstance(named, str) else named


def _check_fits(circuit: Circuit, subject: Subject) -> None:
    for neuron in (row.neuron for row in circuit):
        if not subject.everything.has(neuron):
            raise ModelMismatchError(
                f"The circuit {circuit.name!r} has the neuron ({neuron.name}), which the model has not.",
                wanted="a circuit of the model that is trained",
            )


def _recorded(circuit: Circuit | None, subject: Subject, behaviour: Behaviour, contrast: Contrast) -> Margin | None:
    record = None if circuit is None else circuit.origin.margin
    margin = None if record is None else recorded_margin(record, subject, behaviour, [contrast])
    return None if margin is None else margin.reported or margin.pushed
