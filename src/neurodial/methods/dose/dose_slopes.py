"""The true objective and its slopes in every neuron's dose, under given doses.

1. The mean margin over prompts, and its slope: minus that in the multiplier (`effect.py`, under steering).
2. The mean KL(unsteered || steered) per prediction over neutral answers, and its slope. The slope of KL in the steered
   logits is `q - p`; it goes back through the model once.
Two forward and two backward passes in all, one each over the prompts and over the answers; memory is that of one
micro-batch, the unsteered states of the scored predictions, and one number for each neuron.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.site import Site
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.kept import KeptForm, kept
from neurodial.margins.margin import Margin
from neurodial.methods.dose.effect import check_reached, margin_slopes
from neurodial.methods.scores import Scores
from neurodial.model.gradients import backward, gradient_tokens, multiplier_slopes
from neurodial.model.head import hidden_states, log_probs
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example

_CELLS = 512  # predictions whose distributions over the vocabulary are held at once


@dataclass(frozen=True)
class DoseSlopes:
    """Margin and divergence under some doses, and their slopes in the dose of every neuron, dosed or not.

    Attributes:
        margin: mean over the prompts.
        divergence: nats per prediction over the answers.
        of_margin: d margin / d dose.
        of_divergence: d divergence / d dose.
    """

    margin: float
    divergence: float
    of_margin: Scores
    of_divergence: Scores


def _packed(found: DoseSlopes) -> tuple[list[float], dict[str, Tensor]]:
    parts = (("margin", found.of_margin), ("divergence", found.of_divergence))
    tensors = {f"{name}/{key}": tensor for name, scores in parts for key, tensor in scores.tensors().items()}
    return [found.margin, found.divergence], tensors


def _unpacked(values: list[float], tensors: Mapping[str, Tensor], _: object) -> DoseSlopes:
    margin, divergence = (
        Scores.of_tensors(
            {key.partition("/")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")},
            torch.device("cpu"),
        )
        for name in ("margin", "divergence")
    )
    return DoseSlopes(values[0], values[1], margin, divergence)


@kept("dose slopes", KeptForm(_packed, _unpacked))
def dose_slopes(
    subject: Subject,
    scale: Scale,
    margin: Margin,
    examples: Sequence[Example],
    passages: Sequence[Passage],
    *,
    unsteered: Sequence[Float[Tensor, "_ hidden"]],
    system: str | None = None,
    progress: Progress = silent,
) -> DoseSlopes:
    """Margin and divergence under a circuit at its dial, with their slopes.

    Args:
        subject: the model, under no other steering.
        scale: the doses.
        margin: of the behaviour.
        examples: the prompts that it is taken on.
        passages: neutral answers.
        unsteered: what `unsteered_states` gave for these passages.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt or passage is longer than the context.
        GradientError: the model gives no gradients.
        MarginError: a prompt lacks what the margin reads.
    """
    with steer(subject, scale):
        sums = {site: torch.zeros(subject.shape(site), dtype=torch.float64) for site in subject.sites}

        def add(site: Site, slopes: Tensor, rows: Sequence[int]) -> None:
            del rows
            sums[site] += slopes.detach().cpu().double().sum(dim=0)

        values = margin_slopes(subject, margin, examples, add, system=system, progress=progress)
        of_margin = Scores({site: -total / len(examples) for site, total in sums.items()})
        divergence, of_divergence = _divergence(subject, passages, unsteered, progress)
    return DoseSlopes(sum(values) / len(values), divergence, of_margin, of_divergence)


def _divergence(
    subject: Subject, passages: Sequence[Passage], unsteered: Sequence[Tensor], progress: Progress
) -> tuple[float, Scores]:
    """Step 2, under the steering that acts."""
    scored = sum(passage.scored for passage in passages)
    sums = {site: torch.zeros(subject.shape(site), dtype=torch.float64) for site in subject.sites}
    reached: set[Site] = set()
    total = 0.0

    def take(site: Site, slopes: Tensor) -> None:
        sums[site] += slopes.detach().cpu().double().sum(dim=0)
        reached.add(site)

    sequences = [passage.tokens for passage in passages]
    with multiplier_slopes(subject, take), progress("measuring slopes of the damage", len(passages)) as advance:
        for batch in batches(sequences, pad=pad_id(subject), budget=gradient_tokens(subject)):
            hidden = hidden_states(subject, batch.tokens)
            cells = torch.cat([hidden[row, list(passages[n].places)] for row, n in enumerate(batch.rows)])
            before = torch.cat([unsteered[n] for n in batch.rows])
            gradients = []
            for start in range(0, cells.shape[0], _CELLS):
                part = cells[start : start + _CELLS].detach().requires_grad_(True)
                with torch.no_grad():
                    p = log_probs(subject, before[start : start + _CELLS])
                kl = (p.exp() * (p - log_probs(subject, part))).sum()
                gradients.append(torch.autograd.grad(kl, part)[0])
                total += float(kl.detach().double())
            backward(subject, [cells], [torch.cat(gradients)])
            advance(len(batch.rows))
    check_reached(subject, reached)
    return total / scored, Scores({site: -total_of_site / scored for site, total_of_site in sums.items()})
