"""inspect_ai's provider `neurodial`: `inspect eval TASK --model neurodial/MODEL -M circuit=FILE -M dial=0.5`.

1. Samples that wait at the same time, and are decoded in the same way, are answered in one batch.
2. What is asked for and can't be done (tools, log-probabilities, pictures) is an error of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)

from neurodial.errors import OptionError, PromptError
from neurodial.evaluation.model_arguments import described, refuse_unknown, scales_of
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate
from neurodial.intervention.base import Together
from neurodial.model.load import load
from neurodial.prompts.prompt import Message, Prompt

_LONGEST = 512
"""Tokens of an answer where a task says nothing, as far as the context allows."""
_NOT_DONE = ("stop_seqs", "logprobs", "top_logprobs", "response_schema", "logit_bias", "top_k")


@dataclass(eq=False)
class _Waiting:
    """A sample that waits for its answer."""

    prompt: Prompt
    decoding: Decoding
    answer: Answer | None = None


class NeurodialAPI(ModelAPI):  # type: ignore[misc, unused-ignore]  # installed or not
    """A model under circuits at their dials.

    Args:
        model_name: Hub id, folder, GGUF file, `demo` or `demo-base`.
        base_url: not used: the model runs here.
        api_key: not used.
        config: inspect's own settings of generation.
        circuit: files of circuits, a plus sign between them; none: the model as it is.
        dial: one for all circuits, or one for each, a plus sign between them.
        batch_size: samples that are answered together.
        options: `adapter`, `device`, `dtype`, `revision` and `trust_remote_code` of `nd.load`.

    Raises:
        ModelMismatchError: a circuit was made on another model.
        OptionError: as many dials as circuits, or one, were wanted.
        UnknownNameError: no such model argument.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        circuit: str | Sequence[str] = (),
        dial: float | str | Sequence[float] = 1.0,
        batch_size: int = 16,
        **options: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        refuse_unknown(options, ("adapter", "device", "dtype", "revision", "trust_remote_code"))
        self.subject = load(model_name, **options)
        self.scales = scales_of(circuit, dial)
        self._under = Together(tuple(self.scales)) if self.scales else None
        if self._under is not None:
            self._under.compile(self.subject)  # says now, not at the first sample, that a circuit does not fit
        self._batch_size = batch_size
        self._waiting: list[_Waiting] = []
        self._turn = anyio.Lock()

    def max_tokens(self) -> int:
        """The longest answer where a task says nothing."""
        context = self.subject.context_length
        return _LONGEST if context is None else min(_LONGEST, context // 2)

    def max_connections(self) -> int:
        """Samples that inspect sends at the same time: a batch."""
        return self._batch_size

    async def generate(self, input: Any, tools: Any, tool_choice: Any, config: GenerateConfig) -> ModelOutput:  # noqa: A002, ARG002  # the interface's names
        """Answer a chat.

        Raises:
            OptionError: something is asked for that this provider does not do.
            PromptError: a message holds more than text.
        """
        asked = _Waiting(_prompt(input), _decoding(config, bool(tools), self.max_tokens(), self._batch_size))
        self._waiting.append(asked)
        await anyio.lowlevel.checkpoint()  # let others that come at the same time queue up
        async with self._turn:
            if asked.answer is None:
                await self._answer_with(asked)
        answer = asked.answer
        assert answer is not None  # noqa: S101  # set by whoever had the turn
        return self._output(asked.prompt, answer)

    async def _answer_with(self, first: _Waiting) -> None:
        """Answer a sample and those that wait with it."""
        alike = [one for one in self._waiting if one.decoding == first.decoding and one is not first]
        batch = [first, *alike[: self._batch_size - 1]]
        self._waiting = [one for one in self._waiting if one not in batch]
        prompts = [one.prompt for one in batch]

        def run() -> list[Answer]:
            return generate(self.subject, prompts, under=self._under, decoding=first.decoding)

        try:
            answers = await anyio.to_thread.run_sync(run)
        except BaseException:
            self._waiting += batch[1:]  # an error is of the sample that asked; the others try by themselves
            raise
        for one, answer in zip(batch, answers, strict=True):
            one.answer = answer

    def _output(self, prompt: Prompt, answer: Answer) -> ModelOutput:
        content: Any = answer.text
        if answer.thinking is not None:
            content = [ContentReasoning(reasoning=answer.thinking), ContentText(text=answer.text)]
        message = ChatMessageAssistant(content=content, model=self.model_name, source="generate")
        came, went = len(self.subject.render([prompt])[0]), len(answer.tokens)
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason="stop" if answer.is_finished else "max_tokens")],
            usage=ModelUsage(input_tokens=came, output_tokens=went, total_tokens=came + went),
            metadata={"circuits": described(self.scales), "model_digest": self.subject.identity.digest},
        )


def _prompt(messages: Sequence[Any]) -> Prompt:
    for message in messages:
        parts = [] if isinstance(message.content, str) else message.content
        others = sorted({part.type for part in parts} - {"text", "reasoning"})
        if others:
            raise PromptError(f"A message holds {', '.join(others)}.", wanted="text alone")
    return tuple(Message(message.role, message.text) for message in messages)


def _decoding(config: GenerateConfig, has_tools: bool, longest: int, batch_size: int) -> Decoding:  # noqa: FBT001
    asked = [name for name in _NOT_DONE if getattr(config, name, None)]
    asked += [
        name for name, is_asked in (("tools", has_tools), ("num_choices", (config.num_choices or 1) > 1)) if is_asked
    ]
    if asked:
        raise OptionError(
            f"The task asks for {', '.join(asked)}.",
            wanted="max_tokens, temperature, top_p, seed",
            fix="Serve the model instead (neurodial serve) and ask it as an OpenAI model, or leave it out.",
        )
    return Decoding(
        max_new_tokens=config.max_tokens or longest,
        temperature=config.temperature or 0.0,
        top_p=1.0 if config.top_p is None else config.top_p,
        seed=config.seed or 0,
        batch_size=batch_size,
    )
