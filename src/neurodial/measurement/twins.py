"""A margin in the model's own words, for prompts that come in pairs: the same request, with and without a behaviour.

1. The model answers, greedily, the prompt of each pair that lacks the behaviour (to induce it, the one that shows it).
2. The margin of either prompt of a pair is minus the mean log-likelihood per token of that answer (to induce, plus).

So removing makes the answers like those that the model itself gives where the behaviour is not asked for. Whole answers
written by hand can be favoured by writing badly: the model finds them unlikely either way. Its own answers can't: text
that breaks down makes them unlikely too, and the margin turns back where neurons are pushed too far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.circuit import Direction
from neurodial.errors import MarginError
from neurodial.measurement.generate import generate, stop_tokens
from neurodial.measurement.margin import Margin, log_probs_of
from neurodial.measurement.options import Decoding
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example, Prompt, prompt_key, prompt_text
from neurodial.prompts.render import Tokens

ANSWER_TOKENS = 24
"""Tokens of an answer: a manner shows from its first words on."""


@dataclass(frozen=True)
class TwinMargin(Margin):
    """How unlikely (to induce: how likely) an answer is that the model itself gives to the other prompt of the pair.

    Attributes:
        answers: the answer's tokens for each prompt, by its key.
        direction: `remove`, towards answers without the behaviour; `induce`, towards answers with it.

    Example:
        >>> margin = TwinMargin({"hello, formally": (72, 105)})
        >>> margin.rows(None, (1, 2), Example("Hello, formally"))
        ((1, 2, 72, 105),)
    """

    answers: Mapping[str, Tokens]
    direction: Direction = "remove"

    def rows(self, subject: Subject | None, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with the answer."""
        del subject
        answer = self.answers.get(prompt_key(example.prompt))
        if answer is None:
            raise MarginError(
                f"The prompt {prompt_text(example.prompt)!r} has no answer of the model's own to go by.",
                wanted="prompts of the contrasts that the margin was found with",
                fix="Extend it with their contrast (margin.extended), or find it anew.",
            )
        return ((*prompt, *answer),)

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The mean log-likelihood of the answer's tokens, negative to remove."""
        answer = rows[0][start:]
        [found] = log_probs_of(subject, rows, hidden, start, [answer])
        return (found if self.direction == "induce" else -found) / len(answer)

    def extended(
        self, subject: Subject, contrasts: Iterable[Contrast], *, system: str | None = None, progress: Progress = silent
    ) -> TwinMargin:
        """The same with the prompts of more contrasts, such as a test split. Call it outside of steering.

        Raises:
            MarginError: a prompt has no twin.
        """
        wanted: dict[str, Prompt] = {}
        for contrast in contrasts:
            wanted |= _asked(contrast, self.direction)
        asked = list({prompt_key(prompt): prompt for prompt in wanted.values()}.values())
        decoding = Decoding(max_new_tokens=ANSWER_TOKENS, batch_size=32, system=system)
        ends = tuple(sorted(stop_tokens(subject))[:1])  # what an empty answer consists of; without any, none is empty
        said = {
            prompt_key(answer.prompt): answer.tokens or ends
            for answer in generate(subject, asked, decoding=decoding, progress=progress)
        }
        found = {key: said[prompt_key(prompt)] for key, prompt in wanted.items()}
        return replace(self, answers={**self.answers, **found})


def find_twins(
    subject: Subject,
    contrasts: Sequence[Contrast],
    direction: Direction = "remove",
    *,
    system: str | None = None,
    progress: Progress = silent,
) -> TwinMargin:
    """The margin for the prompts of some contrasts, from the model's own answers.

    Args:
        subject: the model.
        contrasts: prompts in pairs.
        direction: `remove` the behaviour, or `induce` it.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        MarginError: a prompt has no twin, or one that stands in another split; found before any work.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> pairs = [(nd.Example("Hi, formally", twin="Hi, casually"), nd.Example("Hi, casually", twin="Hi, formally"))]
        >>> margin = find_twins(tiny_subject(), [Contrast.of(*zip(*pairs))])
        >>> sorted(margin.answers)
        ['hi, casually', 'hi, formally']
    """
    return TwinMargin({}, direction).extended(subject, contrasts, system=system, progress=progress)


def _asked(contrast: Contrast, direction: Direction) -> dict[str, Prompt]:
    """For each prompt, the prompt of its pair whose answer is wanted."""
    about, other = contrast.positive, contrast.negative
    if direction == "induce":
        about, other = other, about
    there = {prompt_key(example.prompt) for example in other}
    found = {prompt_key(example.prompt): example.prompt for example in other}
    for example in about:
        if example.twin is None:
            raise MarginError(
                f"The prompt {prompt_text(example.prompt)!r} has no twin.",
                wanted='prompts in pairs: "positive" and "negative", the same request, on one line of the file',
                fix="Pair them, or take another margin.",
            )
        if prompt_key(example.twin) not in there:
            raise MarginError(
                f"The twin of the prompt {prompt_text(example.prompt)!r} stands in another split.",
                wanted="both prompts of a pair in one split",
                fix='Give each line of the file a "split".',
            )
        found[prompt_key(example.prompt)] = example.twin
    return found
