"""Options of an evaluation, shared by the commands that measure. Torch-free, so that help is quick."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from neurodial.evaluation.options import Evaluation


@Parameter(name="*")
@dataclass(frozen=True)
class MeasureOptions:
    """What is measured, on how much.

    Attributes:
        detectors: detectors between commas; by default the behaviour's own, and every published list for refusal.
        prompts: at most this many test prompts of each side.
        neutral: neutral prompts, for text quality and divergence; 0 for none.
        over_refusal: safe prompts that sound unsafe, for refusal; 0 for none.
        questions: questions of our multiple-choice set; 0 for none.
        perplexity: texts written by people, for perplexity; 0 for none.
        tasks: benchmarks between commas: mmlu (from the Hub), mmlu:FILE.jsonl or mmlu:FOLDER with dev.jsonl; or tasks
            of lm-evaluation-harness, by name or as task files (.yaml) with local data.
        task_limit: at most this many documents of each task (or of each of its subjects); of mmlu in all, 1000 by
            default.
        fewshot: examples before each question of a task; by default the task's own number, 5 for mmlu.
        max_new_tokens: the longest answer; take 512 for a headline number.
        batch_size: answers made at once.
        temperature: 0 for greedy decoding, else that of sampling.
        seed: of the sampling, and of the draw of MMLU's questions.
        system: a system message before every prompt.
        kl_limit: nats per token that tuning of the other methods allows.
        thinking: a reasoning model's think block: leave it out of what is scored, or score it apart as well.
    """

    detectors: str = ""
    prompts: int | None = None
    neutral: int | None = None
    over_refusal: int | None = None
    questions: int | None = None
    perplexity: int | None = None
    tasks: str = ""
    task_limit: int | None = None
    fewshot: int | None = None
    max_new_tokens: int = 128
    batch_size: int = 16
    temperature: float = 0.0
    seed: int = 0
    system: str | None = None
    kl_limit: float | None = None
    thinking: Literal["leave-out", "apart"] = "leave-out"

    def evaluation(self) -> Evaluation:
        """The library's options.

        Raises:
            OptionError: a value makes no sense.
        """
        from neurodial.evaluation.options import Evaluation, HarnessOptions
        from neurodial.generation.decoding import Decoding

        decoding = Decoding(
            self.max_new_tokens, self.temperature, seed=self.seed, batch_size=self.batch_size, system=self.system
        )
        names = ("prompts", "neutral", "over_refusal", "questions", "perplexity", "kl_limit")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        harness = HarnessOptions(parts(self.tasks), self.task_limit, self.fewshot, self.batch_size, seed=self.seed)
        base = Evaluation(detectors=parts(self.detectors), decoding=decoding, thinking=self.thinking, harness=harness)
        return dataclasses.replace(base, **given)


def parts(text: str) -> tuple[str, ...]:
    """What stands between commas.

    Example:
        >>> parts("caa, random")
        ('caa', 'random')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())
