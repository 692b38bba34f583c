"""The vectors of contrastive activation addition (arXiv 2312.06681) and directional ablation (arXiv 2406.11717).

1. Last-token reading: `v_L = mean(h_L | P+) - mean(h_L | P-)` at the last token of the rendered prompt.
2. Answer reading, the original's: each prompt becomes a question with two answers, (A) and (B), one of which shows the
   behaviour; the chat is left open after the letter. `v_L` is the mean over pairs of the stream at the letter that
   shows the behaviour less that at the letter that does not. Which letter shows it alternates, so letters cancel.
3. As the public code beside arXiv 2605.12290 does it: the difference of what each *MLP* writes, for every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from neurodial.errors import OptionError, PromptError
from neurodial.intervention.base import Dial, Intervention, check_options, check_parts, dial_column, planned
from neurodial.intervention.plan import Add, HookPoint, Plan, spread
from neurodial.intervention.when import When
from neurodial.methods.apart import check_apart
from neurodial.methods.vectors.residual import residual_means
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example, Message, prompt_text
from neurodial.prompts.render import Tokens


def last_token_vectors(
    subject: Subject, contrast: Contrast, offsets: Sequence[int] = (-1,)
) -> Float[Tensor, "offset layer hidden"]:
    """Differences of means after every block, at tokens counted from the end of the prompts.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> tuple(last_token_vectors(tiny_subject(), Contrast.of(["a", "b"], ["c"])).shape)
        (1, 2, 16)
    """
    check_apart(subject, contrast)
    positive, negative = (
        residual_means(subject, subject.render([e.prompt for e in side]), offsets)
        for side in (contrast.positive, contrast.negative)
    )
    return positive - negative


def direction_vectors(subject: Subject, contrast: Contrast) -> dict[tuple[int, int], Float[Tensor, "hidden"]]:
    """The candidates of directional ablation: differences of means by block and token, the token from the prompt's end.

    The tokens are those that the template puts after the instruction (at most five; the last one without a template).
    The last fifth of the blocks is left out, as in the source: their directions are about the next words, not the
    behaviour.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> sorted(direction_vectors(tiny_subject(chat=False), Contrast.of(["a", "b"], ["c"])))
        [(0, -1), (1, -1)]
    """
    width = subject.post_instruction_length if subject.has_chat else 1
    offsets = [-1 - step for step in range(min(5, width))]
    vectors = last_token_vectors(subject, contrast, offsets)
    return {
        (layer, offset): vectors[number, layer]
        for layer in range(max(1, round(0.8 * subject.layers)))
        for number, offset in enumerate(offsets)
        if float(vectors[number, layer].norm())
    }


def answer_vectors(
    subject: Subject, contrast: Contrast, *, answers: tuple[str, str] | None = None
) -> Float[Tensor, "layer hidden"]:
    """Differences at the answer letter of two-answer questions, after every block.

    Args:
        subject: the model; needs a chat template.
        contrast: its positive prompts are asked.
        answers: the answer that shows the behaviour and the one that does not, for prompts without any.

    Raises:
        PromptError: a prompt has no answers and `answers` is None, or there is no chat template.
    """
    shows, lacks = [], []
    for number, example in enumerate(contrast.positive):
        first, second = _answers(example, answers)
        is_first = number % 2 == 0
        question = _question(example, (first, second) if is_first else (second, first))
        letters = ("A", "B") if is_first else ("B", "A")
        chats = [(Message("user", question), Message("assistant", f"({letter}")) for letter in letters]
        shown, lacking = subject.render(chats)
        shows.append(shown)
        lacks.append(lacking)
    return (residual_means(subject, shows) - residual_means(subject, lacks))[0]


def mlp_vectors(subject: Subject, contrast: Contrast) -> Float[Tensor, "layer hidden"]:
    """Differences of what every MLP writes at the prompts' last token."""
    check_apart(subject, contrast)
    rendered: list[list[Tokens]] = [
        subject.render([e.prompt for e in side]) for side in (contrast.positive, contrast.negative)
    ]
    positive, negative = (residual_means(subject, side, where="mlp") for side in rendered)
    return (positive - negative)[0]


@dataclass(frozen=True, eq=False)
class AddEverywhere(Intervention):
    """Add `dial * alpha * v_L` to what every MLP writes: how the public code beside arXiv 2605.12290 does CAA.

    Its sign is plus, so it *adds* the behaviour that it is compared as removing; this is reproduced on purpose.

    Attributes:
        vectors: one for each layer.
        alpha: the strength at dial 1.
        dial: 0 unsteered.
        when: which tokens.

    Example:
        >>> import torch
        >>> AddEverywhere(torch.ones(2, 16)).alpha
        1.0
    """

    vectors: Float[Tensor, "layer hidden"]
    alpha: float = 1.0
    dial: Dial = 1.0
    when: When = "all"

    def __post_init__(self) -> None:
        check_options(self.dial, self.when)

    def compile(self, subject: Subject) -> Plan:
        """One addition for each MLP.

        Raises:
            OptionError: the vectors are of another model.
        """
        if tuple(self.vectors.shape) != (subject.layers, subject.hidden_size):
            raise OptionError(
                f"The vectors have shape {tuple(self.vectors.shape)}.",
                wanted=f"({subject.layers}, {subject.hidden_size}), those of {subject.label}",
            )
        check_parts(self.when, subject)
        column = dial_column(self.dial)
        edits = tuple(
            (HookPoint("mlp", layer), Add(spread(column * self.alpha * self.vectors[layer].double().cpu(), self.when)))
            for layer in range(subject.layers)
        )
        return planned(edits, self.dial, self.when)


def _answers(example: Example, fallback: tuple[str, str] | None) -> tuple[str, str]:
    if example.positive_answer and example.negative_answer:
        return example.positive_answer, example.negative_answer
    if fallback is None:
        raise PromptError(
            f"The prompt {prompt_text(example.prompt)!r} has no pair of answers to ask about.",
            wanted="positive_answer and negative_answer, for CAA's answer reading",
            fix="Add them, or take the last-token reading (caa).",
        )
    return fallback


def _question(example: Example, answers: tuple[str, str]) -> str:
    return f"{prompt_text(example.prompt)}\n\nWhich answer do you give?\n(A) {answers[0]}\n(B) {answers[1]}"
