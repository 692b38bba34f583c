"""Reinforcement of a verbaliser: words from which the reconstructor rebuilds the activation better become likelier.

1. Some texts are sampled about each activation of a step.
2. The reward of a text is the cosine of the activation and what the reconstructor makes of the text, less one, twice:
   the negative squared distance of the directions. No text gets what opposite directions get.
3. A text's advantage is its reward less the mean reward of the texts about the same activation, so a step says which of
   them are better and not which activations are easy.
4. The policy gradient: advantages times the mean log-probability of each text's tokens. Nothing holds the words to
   language, so few steps after the supervised ones; what is said is in the report to be looked at.

The stage after the warm start of the published recipe (Transformer Circuits 2026), in its simplest form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.nla.learners import said_likelihoods
from neurodial.nla.options import Verbalising
from neurodial.nla.rebuilt import directions
from neurodial.nla.reconstructor import Reconstructor
from neurodial.nla.train_options import Training
from neurodial.nla.verbaliser import LiveVerbaliser, said_text

_WORST = -4.0


def reward_loss(
    speaker: LiveVerbaliser, reconstructor: Reconstructor, vectors: Float[Tensor, "vector hidden"], options: Training
) -> Callable[[list[int]], Tensor]:
    """A loss whose value is the mean squared error of what is rebuilt, and whose gradient is the policy's.

    Args:
        speaker: the verbaliser, which learns.
        reconstructor: gives the rewards; it is left as it is.
        vectors: the activations.
        options: how many texts about each, and how long they are.
    """
    end = int(speaker.subject.tokenizer.eos_token_id)

    def loss(rows: list[int]) -> Tensor:
        seed = options.seed + sum((place + 1) * row for place, row in enumerate(rows))  # a resumed run draws the same
        asked = Verbalising(options.draws, options.answer_tokens, temperature=1.0, seed=seed)
        answers = speaker.answers(vectors[rows], asked)
        rewards = _rewards(speaker, reconstructor, vectors[rows], answers, options.draws)
        advantages = (rewards - rewards.mean(dim=1, keepdim=True)).flatten()
        given = vectors[rows].repeat_interleave(options.draws, dim=0)
        ended = [answer if len(answer) == options.answer_tokens else (*answer, end) for answer in answers]
        likelihoods, lengths = said_likelihoods(speaker, given, ended)
        means = likelihoods / torch.tensor(lengths, device=likelihoods.device)
        surrogate = -(advantages.to(means.device) * means).mean()
        return surrogate - surrogate.detach() - rewards.mean().to(surrogate.device)

    return loss


@torch.no_grad()
def _rewards(
    speaker: LiveVerbaliser,
    reconstructor: Reconstructor,
    vectors: Float[Tensor, "vector hidden"],
    answers: list[tuple[int, ...]],
    draws: int,
) -> Float[Tensor, "vector draw"]:
    texts = [said_text(str(speaker.subject.tokenizer.decode(list(answer)))).text for answer in answers]
    rewards = torch.full((len(texts),), _WORST)
    told = [number for number, text in enumerate(texts) if text]
    if told:
        rebuilt = directions(reconstructor.vectors([texts[number] for number in told]))
        wanted = directions(vectors).cpu().repeat_interleave(draws, dim=0)[told]
        rewards[told] = 2 * (rebuilt * wanted).sum(dim=1) - 2
    return rewards.reshape(len(vectors), draws)
