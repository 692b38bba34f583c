"""Whether a row's conditions on its prompt hold: decided when its prompt passes, kept for the whole answer.

1. A pass that fills an empty cache holds prompts. Before it runs, the same tokens run once without this steering, and
   each condition's reading is taken at the last token of every row's prompt: so the prompt's own tokens can be steered
   by what it is, and no dial changes the decision.
2. Rows keep their place from pass to pass. A loop that adds and removes rows keeps `outcomes` with them (`recall`).
3. Where nothing was decided (another number of rows, a prompt that goes on after the first pass) it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.prompt_condition import PromptCondition
from neurodial.circuit.site import Neuron, Site, places
from neurodial.errors import SteeringError
from neurodial.intervention.plan import Choice
from neurodial.model.experts import RoutedEdit, Visits
from neurodial.model.hooks import DecoderPass, Handle, installed, on_block_output, on_experts, on_neurons
from neurodial.model.subject import Subject
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import check_context

Outcomes = Mapping[PromptCondition, bool]
"""Which conditions hold on one row's prompt."""

_TAKES_PROMPT = "prompts that pass whole, in one pass into an empty cache, with the rows that go on"
_NOT_OF_READING = ("past_key_values", "use_cache", "cache_position")


class PromptDecisions:
    """What was decided for the rows that run."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._outcomes: tuple[Outcomes, ...] | None = None
        self.is_reading = False

    @property
    def outcomes(self) -> tuple[Outcomes, ...]:
        """For each row of the last prompts, which of its conditions hold."""
        return self._outcomes or ()

    def recall(self, outcomes: Sequence[Outcomes]) -> None:
        """Row r of the next passes is the one for which `outcomes[r]` was decided."""
        self._outcomes = tuple(outcomes)

    def look(self, fed: DecoderPass, choices: Sequence[Choice], boundary: Sequence[int] | None) -> None:
        """Decide for the rows of a pass of prompts, or see that it was decided (1, 3).

        Args:
            fed: the pass that begins.
            choices: of each row.
            boundary: where each row's prompt ends, where it is known.

        Raises:
            SteeringError: it is not known where prompts end, or what was decided for a row.
        """
        if not any(choice.conditions for choice in choices):
            if fed.cached == 0 or len(self.outcomes) != len(choices):
                self._outcomes = tuple({} for _ in choices)
            return
        if fed.cached == 0:
            self._outcomes = self._decide(fed, choices, _last_places(fed, boundary))
            return
        goes_on = fed.tokens > 1 if boundary is None else fed.cached < max(boundary)
        if goes_on:
            raise SteeringError(
                "A prompt goes on after its first pass, so a condition on the whole of it was not decided.",
                wanted=_TAKES_PROMPT,
            )
        known = self._outcomes or ()
        is_known = len(known) == len(choices) and all(
            condition in own for own, choice in zip(known, choices, strict=True) for condition in choice.conditions
        )
        if not is_known:
            raise SteeringError(
                f"{fed.rows} rows go on whose conditions were not decided.",
                wanted=_TAKES_PROMPT,
                fix="Run the prompts inside the same `with` block.",
            )

    def _decide(self, fed: DecoderPass, choices: Sequence[Choice], places: Sequence[int]) -> tuple[Outcomes, ...]:
        conditions = list(dict.fromkeys(condition for choice in choices for condition in choice.conditions))
        self.is_reading = True
        try:
            values = readings(self._subject, fed, conditions, places).tolist()
        finally:
            self.is_reading = False
        return tuple(
            {
                condition: values[number][row] > condition.threshold
                for number, condition in enumerate(conditions)
                if condition in choice.conditions
            }
            for row, choice in enumerate(choices)
        )


@torch.no_grad()
def readings(
    subject: Subject, fed: DecoderPass, conditions: Sequence[PromptCondition], read_at: Sequence[int]
) -> Float[Tensor, "condition row"]:
    """Every condition's reading at one place (`read_at`) of each row; float64, on the CPU.

    Neurons of routed experts count with routing weight times activation, and 0 where the token goes elsewhere.

    Raises:
        SteeringError: one is not finite.
    """
    values = torch.zeros(len(conditions), fed.rows, dtype=torch.float64)
    rows, at = torch.arange(fed.rows), torch.tensor(list(read_at))

    def read(chosen: Sequence[tuple[int, Sequence[int] | None, Sequence[float]]]) -> Callable[[Tensor], None]:
        def take(hidden: Tensor) -> None:
            cells = hidden[rows.to(hidden.device), at.to(hidden.device)].float().cpu().double()
            for number, indices, weights in chosen:
                own = cells if indices is None else cells[:, list(indices)]
                values[number] += own @ torch.tensor(list(weights), dtype=torch.float64)

        return take

    def install(handles: list[Handle]) -> None:
        for site, at_site in _by_site(conditions).items():
            if site.routed:
                edit = _expert_reader(subject.shape(site), at_site, at, values)
                handles.append(on_experts(subject, site.layer, edit))
            else:
                chosen = [(number, [n.index for n in own], list(own.values())) for number, own in at_site]
                handles.append(on_neurons(subject, site, read(chosen)))
        for number, condition in enumerate(conditions):
            if condition.layer is not None:
                handles.append(on_block_output(subject, condition.layer, read([(number, None, condition.weights)])))

    with installed(install):
        subject.decoder(
            **{key: value for key, value in fed.inputs.items() if key not in _NOT_OF_READING}, use_cache=False
        )
    if not bool(torch.isfinite(values).all()):
        raise SteeringError(
            "A condition's reading is not finite, so nothing was decided.",
            wanted="finite activations",
            fix="float16 overflows in many models: load with dtype bfloat16 or float32.",
        )
    return values


def prompt_readings(
    subject: Subject,
    conditions: Sequence[PromptCondition],
    prompts: Sequence[Prompt],
    *,
    system: str | None = None,
    budget: int = TOKEN_BUDGET,
) -> Float[Tensor, "condition prompt"]:
    """Every condition's reading of every prompt, as it is taken when the prompt is answered; float64, on the CPU.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        SteeringError: a reading is not finite.
    """
    sequences = subject.render(prompts, system=system)
    check_context([len(tokens) for tokens in sequences], subject.context_length)
    values = torch.zeros(len(conditions), len(prompts), dtype=torch.float64)
    for batch in batches(sequences, pad=pad_id(subject), budget=budget):
        tokens = batch.tokens.to(subject.device)
        fed = DecoderPass(tokens.shape[0], tokens.shape[1], cached=0, inputs={"input_ids": tokens})
        values[:, list(batch.rows)] = readings(subject, fed, conditions, [length - 1 for length in batch.lengths])
    return values


def acting(
    subject: Subject, circuits: Sequence[Circuit], prompts: Sequence[Prompt], *, system: str | None = None
) -> list[tuple[bool, ...]]:
    """For each circuit, on which of the prompts it acts; one without a condition acts on all.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        SteeringError: a reading is not finite.
    """
    conditions = list(dict.fromkeys(circuit.condition for circuit in circuits if circuit.condition is not None))
    values = prompt_readings(subject, conditions, prompts, system=system).tolist() if conditions else []
    holds = {
        condition: tuple(value > condition.threshold for value in own)
        for condition, own in zip(conditions, values, strict=True)
    }
    everywhere = (True,) * len(prompts)
    return [everywhere if circuit.condition is None else holds[circuit.condition] for circuit in circuits]


_OfSite = tuple[int, dict[Neuron, float]]
"""The number of a condition, and the neurons that it reads at a site with their weights."""


def _by_site(conditions: Sequence[PromptCondition]) -> dict[Site, list[_OfSite]]:
    """For each site, what the conditions read there."""
    found: dict[Site, list[_OfSite]] = {}
    for number, condition in enumerate(conditions):
        by_site: dict[Site, dict[Neuron, float]] = {}
        for neuron, weight in zip(condition.neurons, condition.weights, strict=False):
            by_site.setdefault(neuron.site, {})[neuron] = weight
        for site, read in by_site.items():
            found.setdefault(site, []).append((number, read))
    return found


def _expert_reader(
    shape: tuple[int, ...], chosen: Sequence[_OfSite], at: Tensor, values: Float[Tensor, "condition row"]
) -> RoutedEdit:
    """Adds what conditions read of routed experts to their values: at the visits of the token read of each row."""
    tables = [(number, _table(shape, own)) for number, own in chosen]

    def take(activations: Tensor, visits: Visits) -> None:
        cells, rows, experts = (of_visit.cpu() for of_visit in (visits.cells, visits.rows, visits.experts))
        is_read = cells == rows * visits.shape[1] + at[rows]
        written = visits.weighted(activations).cpu().double()[is_read]
        for number, table in tables:
            values[number].index_add_(0, rows[is_read], (written * table[experts[is_read]]).sum(dim=1))

    return take


def _table(shape: tuple[int, ...], weights: Mapping[Neuron, float]) -> Float[Tensor, "expert neuron"]:
    """The weights of a site's neurons, 0 for those that are not read."""
    table = torch.zeros(shape, dtype=torch.float64)
    table[places(weights)] = torch.tensor(list(weights.values()), dtype=torch.float64)
    return table


def _last_places(fed: DecoderPass, boundary: Sequence[int] | None) -> list[int]:
    """The place of the last token of each row's prompt."""
    if boundary is not None:
        places = [end - 1 for end in boundary]
        if not all(0 <= place < fed.tokens for place in places):
            raise SteeringError(
                f"A pass of {fed.tokens} tokens came, but prompts end after {min(boundary)} to {max(boundary)}: a "
                "condition on them was not decided.",
                wanted=_TAKES_PROMPT,
            )
        return places
    mask = fed.inputs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2:
        numbered = (mask[:, -fed.tokens :] != 0) * torch.arange(1, fed.tokens + 1, device=mask.device)
        return [max(0, place - 1) for place in numbered.amax(dim=1).tolist()]
    return [fed.tokens - 1] * fed.rows
