"""Checks for every contrastive method: the two sides must differ, and the scores must not all be 0."""

from __future__ import annotations

from neurodial.activations.position import Position
from neurodial.errors import ActivationError, PromptError
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import prompt_text


def check_apart(
    subject: Subject,
    contrast: Contrast,
    *,
    system: str | None = None,
    double_bos: bool = False,
    position: Position | None = None,
) -> None:
    """Refuse, before any work, prompts that are rendered exactly as prompts of the other side.

    Args:
        subject: the model.
        contrast: the two sides.
        system: a system message before every prompt.
        double_bos: as in `render`.
        position: the position that is read; the sides must differ before it or at it.

    Raises:
        PromptError: counts the prompts that are alike and names the first, or says that no prompt differs so early.
    """
    positive, negative = (
        subject.render([example.prompt for example in side], system=system, double_bos=double_bos)
        for side in (contrast.positive, contrast.negative)
    )
    other = set(negative)
    alike = [example for example, tokens in zip(contrast.positive, positive, strict=True) if tokens in other]
    if alike:
        raise PromptError(
            f"{len(alike)} of {len(positive)} positive prompts are rendered just as negative ones are, such as "
            f"{prompt_text(alike[0].prompt)[:60]!r}.",
            wanted="two sides that the model can tell apart",
            fix="Look at what the chat template makes of them: it may drop what they differ in.",
        )
    if position is None:
        return
    seen = [{tokens[: max(position.read(len(tokens))) + 1] for tokens in side} for side in (positive, negative)]
    if seen[0] == seen[1]:
        raise PromptError(
            f"Up to the token that is read ({position}), both sides are the same: no neuron can differ.",
            wanted="a token that comes after what the prompts differ in, such as the last",
        )


def check_scores(scores: Scores) -> Scores:
    """The scores, refused where every one is 0: there is nothing to choose neurons by.

    Raises:
        ActivationError: all are 0.
    """
    if not bool(scores.flat().any()):
        raise ActivationError(
            "Every neuron's score is 0: both sides look the same to the model where it is read.",
            wanted="prompts that the model answers differently, read after what they differ in",
        )
    return scores
