"""The two models of a pair while they learn: LoRA on copies of the base, so that the base itself is left as it is.

1. The reconstructor: the base's first blocks and one linear map, which begins as the identity. It learns to rebuild an
   activation from the text around its token: the loss is `2 (1 - cos)`.
2. The verbaliser: the whole base. With an activation in place of the marker it learns to say the text around the token,
   by the likelihood of that text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.activations.batches import padded
from neurodial.activations.collect import pad_id
from neurodial.errors import ModelError, VerbaliserError
from neurodial.model.head import log_probs
from neurodial.model.hooks import on_embedding
from neurodial.model.shortened import first_blocks
from neurodial.model.subject import Subject
from neurodial.nla.activation_texts import ActivationTexts
from neurodial.nla.injection import Injection
from neurodial.nla.rebuilt import directions
from neurodial.nla.reconstructor import Reconstructor, last_states
from neurodial.nla.train_options import Training
from neurodial.nla.verbaliser import CLOSE, OPEN, LiveVerbaliser
from neurodial.prompts.render import Tokens


@dataclass(frozen=True, eq=False)
class Learner:
    """A model with LoRA on it.

    Attributes:
        subject: the model, whose linear maps the LoRA is in.
        tuned: the same under PEFT.
        parameters: what is learned, by name.
        loss: of some examples, by their numbers.
    """

    subject: Subject
    tuned: Any
    parameters: dict[str, nn.Parameter]
    loss: Callable[[list[int]], Tensor]

    def merged(self) -> Any:
        """The model with the LoRA in its weights; the learner is of no use after it."""
        return self.tuned.merge_and_unload()


def learn_to_rebuild(
    base: Subject, texts: ActivationTexts, layer: int, template: str, options: Training
) -> tuple[Learner, nn.Parameter]:
    """A reconstructor that learns, and its map.

    Raises:
        ModelError: the first blocks alone do not compute what they compute in the whole model.
    """
    model = first_blocks(base.model, layer + 1)
    subject = Subject.of(model, base.tokenizer, label=f"the first blocks of {base.label}", template=base.template)
    _check_same(base, subject, layer)
    tuned, parameters = _with_lora(model, options)
    head = nn.Parameter(torch.eye(base.hidden_size, device=subject.device))
    reconstructor = Reconstructor(subject, head.detach(), template)
    sequences = [reconstructor.tokens(text) for text in texts.around]
    targets = directions(texts.vectors)

    def loss(rows: list[int]) -> Tensor:
        chosen = [sequences[row] for row in rows]
        ends = last_states(subject, padded(chosen, pad_id(subject), "right"), [len(row) for row in chosen])
        rebuilt = directions(ends.float() @ head.T)
        wanted = targets[rows].to(rebuilt.device)
        return (2 - 2 * (rebuilt * wanted).sum(dim=-1)).mean()

    return Learner(subject, tuned, {**parameters, "head": head}, loss), head


def learn_to_say(base: Subject, texts: ActivationTexts, injection: Injection, options: Training) -> Learner:
    """A verbaliser that learns.

    Raises:
        VerbaliserError: the tokenizer has no token that ends an answer.
    """
    model = copy.deepcopy(base.model)
    subject = Subject.of(model, base.tokenizer, label=f"a copy of {base.label}", template=base.template)
    tuned, parameters = _with_lora(model, options)
    end = subject.tokenizer.eos_token_id
    if end is None:
        raise VerbaliserError(f"The tokenizer of {base.label} has no end token.", wanted="one, so that answers end")
    answers = [(*subject.encode(f"{OPEN}{text}{CLOSE}", special=False), int(end)) for text in texts.around]
    speaker = LiveVerbaliser(subject, injection)

    def loss(rows: list[int]) -> Tensor:
        likelihoods, lengths = said_likelihoods(speaker, texts.vectors[rows], [answers[row] for row in rows])
        return -likelihoods.sum() / sum(lengths)

    return Learner(subject, tuned, parameters, loss)


def said_likelihoods(
    speaker: LiveVerbaliser, vectors: Float[Tensor, "row hidden"], answers: Sequence[Tokens]
) -> tuple[Float[Tensor, "row"], list[int]]:
    """How likely a verbaliser is to say an answer of each vector: the sum of log-probabilities, and the tokens.

    What stands before the marker is the same for all rows and read once, where the model allows that.
    """
    subject = speaker.subject
    prompt, place = speaker.prompt
    cut = place if subject.layout.shares_prefixes else 0
    start = len(prompt) - cut - 1  # where the answer's first token is foretold
    tokens = padded([(*prompt[cut:], *answer) for answer in answers], pad_id(subject), "right").to(subject.device)
    given = speaker.injection.scaled(vectors)

    def put(hidden: Tensor) -> Tensor:
        here = given.to(hidden.device, hidden.dtype)[:, None]
        return torch.cat([hidden[:, : place - cut], here, hidden[:, place - cut + 1 :]], dim=1)

    begun = _begun(subject, prompt[:cut], len(answers)) if cut else None
    handle = on_embedding(subject, put)
    try:
        ended: Any = subject.decoder(input_ids=tokens, past_key_values=begun, use_cache=begun is not None)
    finally:
        handle.remove()
    table = log_probs(subject, ended.last_hidden_state[:, start:-1])
    lengths = [len(answer) for answer in answers]
    said = torch.arange(table.shape[1], device=table.device)[None] < torch.tensor(lengths, device=table.device)[:, None]
    each = table.gather(-1, tokens[:, start + 1 :, None].to(table.device))[..., 0]
    return (each * said).sum(dim=1), lengths


def _begun(subject: Subject, prompt: Tokens, rows: int) -> Any:
    """The cache of a prompt's common beginning, read once, for each of some rows; gradients flow through it."""
    begun: Any = subject.decoder(input_ids=torch.tensor([prompt], device=subject.device), use_cache=True)
    begun.past_key_values.batch_repeat_interleave(rows)
    return begun.past_key_values


def _with_lora(model: Any, options: Training) -> tuple[Any, dict[str, nn.Parameter]]:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules="all-linear", lora_dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        tuned = get_peft_model(model, config)
    tuned.eval()  # no dropout of the base's own: the same steps give the same model
    parameters = {name: value for name, value in tuned.named_parameters() if value.requires_grad}
    return tuned, parameters


@torch.no_grad()
def _check_same(base: Subject, first: Subject, layer: int) -> None:
    """Refuse a model whose first blocks do something else by themselves."""
    from neurodial.nla.vectors import block_outputs

    tokens = base.encode("One text, to see whether both compute the same.")
    [whole], [part] = block_outputs(base, [tokens], layer), block_outputs(first, [tokens], layer)
    if float((whole - part).norm()) > 1e-2 * float(whole.norm()):
        raise ModelError(
            f"The first {layer + 1} blocks of {base.label} alone do not give what they give in the whole model.",
            wanted="a model whose blocks depend on those before them alone",
        )
