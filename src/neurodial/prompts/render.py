"""From prompts to tokens: the tokenizer's own chat template, rendered and tokenised in one step.

Rendering to text and tokenising that again would put the beginning-of-sequence token in twice (METHOD.md, the
table of traps); `double_bos=True` does so on purpose, to reproduce the public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurodial.errors import ContextLengthError, PromptError
from neurodial.prompts.prompt import Message, Prompt, as_messages, prompt_text

Tokens = tuple[int, ...]


def render(
    tokenizer: Any, prompts: Sequence[Prompt], *, system: str | None = None, double_bos: bool = False
) -> list[Tokens]:
    """Token ids of each prompt, as the model sees it before it answers.

    With a chat template: the template, with the generation prompt; a chat that ends in an assistant message is
    left open after it. Without one: the raw text with the tokenizer's special tokens.

    Args:
        tokenizer: a transformers tokenizer.
        prompts: texts or chats.
        system: a system message put before each prompt that has none.
        double_bos: render to text and tokenise that with special tokens, as the public code does.

    Raises:
        PromptError: a chat for a tokenizer without a chat template, or a template that refuses a message.
    """
    if tokenizer.chat_template is None:
        return [_raw(tokenizer, prompt, system) for prompt in prompts]
    return [_templated(tokenizer, with_system(prompt, system), double_bos=double_bos) for prompt in prompts]


def check_context(lengths: Sequence[int], limit: int | None, *, extra: int = 0) -> None:
    """Refuse, before any work, prompts that don't fit the context together with `extra` new tokens.

    Raises:
        ContextLengthError: names the first prompt that is too long.
    """
    if limit is None:
        return
    for number, length in enumerate(lengths, start=1):
        if length + extra > limit:
            room = f" and {extra} new ones" if extra else ""
            raise ContextLengthError(
                f"Prompt {number} has {length} tokens{room}.",
                wanted=f"at most {limit}, the model's context",
                fix="Shorten the prompt" + (" or ask for fewer new tokens." if extra else "."),
            )


def post_instruction_length(tokenizer: Any) -> int:
    """How many tokens the template puts after the user's text: what `PostInstruction` positions read.

    Two different texts are rendered; the tokens that both end with come from the template.

    Raises:
        PromptError: there is no chat template, or it puts nothing after the user's text.
    """
    if tokenizer.chat_template is None:
        raise PromptError(
            "This tokenizer has no chat template, so no tokens follow the instruction.",
            fix="Read the last token instead (position 'last').",
        )
    first, second = render(tokenizer, ["one", "two"])
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    if length == 0:
        raise PromptError("The chat template puts no tokens after the user's text.", fix="Read the last token instead.")
    return length


def with_system(prompt: Prompt, system: str | None) -> Prompt:
    """The prompt with a system message before it, unless it has one or `system` is None."""
    if system is None or (not isinstance(prompt, str) and prompt[0].role == "system"):
        return prompt
    return (Message("system", system), *(Message(m["role"], m["content"]) for m in as_messages(prompt)))


def _templated(tokenizer: Any, prompt: Prompt, *, double_bos: bool) -> Tokens:
    messages = as_messages(prompt)
    is_open = messages[-1]["role"] == "assistant"
    options = {"add_generation_prompt": not is_open, "continue_final_message": is_open}
    try:
        if double_bos:
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            return tuple(tokenizer(text)["input_ids"])
        return tuple(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options))
    except Exception as error:
        if is_open and isinstance(error, ValueError):
            return _left_open(tokenizer, messages, double_bos=double_bos)
        if type(error).__module__.startswith("jinja2"):
            roles = ", ".join(message["role"] for message in messages)
            raise PromptError(f"The model's chat template refuses a chat of {roles}: {error}.") from error
        raise


def _left_open(tokenizer: Any, messages: list[dict[str, str]], *, double_bos: bool) -> Tokens:
    """A chat left open after its answer, for templates that take an answer apart, such as at `</think>`.

    transformers wants to find the whole answer in what was rendered; here the end of it is marked, and what the
    template made of what stands before the mark is taken as it is.

    Raises:
        PromptError: the template drops the answer's end.
    """
    mark = "\ue000end\ue000"
    marked = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"].rstrip() + mark}]
    text = tokenizer.apply_chat_template(marked, tokenize=False)
    if mark not in text:
        raise PromptError(
            f"The model's chat template drops the end of the answer {messages[-1]['content'][:80]!r}.",
            wanted="an answer that the template renders, after its thinking if it has any",
        )
    return tuple(tokenizer(text[: text.rindex(mark)], add_special_tokens=double_bos)["input_ids"])


def _raw(tokenizer: Any, prompt: Prompt, system: str | None) -> Tokens:
    if not isinstance(prompt, str) or system is not None:
        raise PromptError(
            "This tokenizer has no chat template, so a chat or a system message can't be rendered.",
            wanted="plain text prompts",
            fix="Use a chat model, or give the prompts as text.",
        )
    return tuple(tokenizer(prompt_text(prompt))["input_ids"])
