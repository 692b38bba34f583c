"""A margin in the model's own words, for prompts that come in pairs: the same request, with and without a behaviour.

1. The model answers both prompts of each pair, greedily.
2. The margin of either prompt is the mean log-likelihood per token of the answer with the behaviour, less that of the
   answer without.
3. The reference answer (to remove, the one without) must become no less likely than in the unsteered model.

A margin between two answers can grow while both become unlikely: a model that writes badly prefers neither. The third
step prevents that here: when text breaks down, both of the model's own answers become unlikely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from neurodial.errors import MarginError
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate, stop_tokens
from neurodial.margins.margin import Margin, log_probs_of
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.answered import both_ways
from neurodial.prompts.pairs import Contrast, Direction
from neurodial.prompts.prompt import Example, Prompt, prompt_key, prompt_text
from neurodial.prompts.render import Tokens

ANSWER_TOKENS = 24
"""Tokens of an answer: its manner shows from the first words on."""


@dataclass(frozen=True)
class OwnAnswerMargin(Margin):
    """How much likelier the model's own answer to the prompt with the behaviour is than that to the one without.

    Attributes:
        answers: for each prompt, by its key, the tokens of the answer with the behaviour and of that without.

    Example:
        >>> margin = OwnAnswerMargin({"hello, formally": ((72, 101), (72, 105))})
        >>> margin.rows(None, (1, 2), Example("Hello, formally"))
        ((1, 2, 72, 101), (1, 2, 72, 105))
    """

    reads_answers_alone: ClassVar[bool] = True

    answers: Mapping[str, tuple[Tokens, Tokens]]

    def rows(self, subject: Subject | None, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with either answer."""
        return tuple((*prompt, *answer) for answer in self.continuations(subject, example))

    def continuations(self, subject: Subject | None, example: Example) -> tuple[Tokens, ...]:
        """The two answers."""
        del subject
        answers = self.answers.get(prompt_key(example.prompt))
        if answers is None:
            raise MarginError(
                f"The prompt {prompt_text(example.prompt)!r} has no answers of the model's own.",
                wanted="prompts of the contrasts that the margin was found with",
                fix="Extend it with their contrast (margin.extended), or search for it again.",
            )
        return answers

    def combined(self, continuations: Sequence[Tokens], log_probs: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The difference of the mean log-likelihoods."""
        shown, lacking = (value / len(answer) for value, answer in zip(log_probs, continuations, strict=True))
        return shown - lacking

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The difference of the mean log-likelihoods."""
        shown, lacking = (mean_log_prob(subject, row, states, start) for row, states in zip(rows, hidden, strict=True))
        return shown - lacking

    def reference(self, direction: Direction) -> Margin:
        """The mean log-likelihood of the answers without the behaviour; to induce, of those with it."""
        place = 1 if direction == "remove" else 0
        return AnswerLikelihood({key: answers[place] for key, answers in self.answers.items()})

    def extended(
        self, subject: Subject, contrasts: Iterable[Contrast], *, system: str | None = None, progress: Progress = silent
    ) -> OwnAnswerMargin:
        """The same with the prompts of more contrasts, such as a test split. Call it outside of steering.

        Raises:
            MarginError: a prompt has no counterpart.
        """
        contrasts = list(contrasts)
        pairs = _both_ways(contrasts)
        prompts = list({prompt_key(prompt): prompt for pair in pairs.values() for prompt in pair}.values())
        decoding = Decoding(max_new_tokens=ANSWER_TOKENS, system=system)
        return self.reading(subject, contrasts, generate(subject, prompts, decoding=decoding, progress=progress))

    def reading(self, subject: Subject, contrasts: Iterable[Contrast], answers: Iterable[Answer]) -> OwnAnswerMargin:
        """The same with answers that are known already, to the prompts of some contrasts; longer ones are cut.

        Raises:
            MarginError: a prompt has no counterpart.
        """
        pairs = _both_ways(contrasts)
        ends = tuple(sorted(stop_tokens(subject))[:1])  # for an empty answer; without stop tokens none is empty
        tokens_of = {prompt_key(answer.prompt): answer.tokens[:ANSWER_TOKENS] or ends for answer in answers}
        both = {
            key: (tokens_of[prompt_key(shown)], tokens_of[prompt_key(lacking)])
            for key, (shown, lacking) in pairs.items()
        }
        return replace(self, answers={**self.answers, **both})


@dataclass(frozen=True)
class AnswerLikelihood(Margin):
    """The mean log-likelihood per token of one answer to each prompt.

    Attributes:
        answers: the answer's tokens for each prompt, by its key.

    Example:
        >>> AnswerLikelihood({"hello": (72, 105)}).rows(None, (1, 2), Example("Hello"))
        ((1, 2, 72, 105),)
    """

    reads_answers_alone: ClassVar[bool] = True

    answers: Mapping[str, Tokens]

    def rows(self, subject: Subject | None, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with its answer."""
        del subject
        return ((*prompt, *self.answers[prompt_key(example.prompt)]),)

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The mean log-likelihood of the answer's tokens."""
        return mean_log_prob(subject, rows[0], hidden[0], start)


def mean_log_prob(subject: Subject, row: Tokens, hidden: Float[Tensor, "_ hidden"], start: int) -> Float[Tensor, ""]:
    """The mean log-probability of a row's tokens from `start` on."""
    answer = row[start:]
    return log_probs_of(subject, [row], [hidden], start, [answer])[0] / len(answer)


def find_own_answers(
    subject: Subject,
    contrasts: Sequence[Contrast],
    *,
    system: str | None = None,
    progress: Progress = silent,
) -> OwnAnswerMargin:
    """The margin for the prompts of some contrasts, from the model's own answers.

    Args:
        subject: the model.
        contrasts: prompts in pairs.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        MarginError: a prompt has no counterpart, or its counterpart is in another split; checked before any work.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> formal, casual = "Hi, formally", "Hi, casually"
        >>> pair = nd.Example(formal, counterpart=casual), nd.Example(casual, counterpart=formal)
        >>> margin = find_own_answers(tiny_subject(), [Contrast((pair[0],), (pair[1],))])
        >>> sorted(margin.answers)
        ['hi, casually', 'hi, formally']
    """
    return OwnAnswerMargin({}).extended(subject, contrasts, system=system, progress=progress)


def _both_ways(contrasts: Iterable[Contrast]) -> dict[str, tuple[Prompt, Prompt]]:
    """The two prompts of each prompt's pair, of several contrasts."""
    return {key: pair for contrast in contrasts for key, pair in both_ways(contrast).items()}
