"""From prompts to tokens: the tokenizer's own chat template, rendered and tokenised in one step.

Rendering to text and tokenising that again would put the beginning-of-sequence token in twice (METHOD.md, the
table of traps); `double_bos=True` does so on purpose, to reproduce the public code.

Subjects render with `Subject.render` and `Subject.encode`, which know the model's template options and its vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurodial.errors import ContextLengthError, PromptError
from neurodial.prompts.prompt import Message, Prompt, as_messages, prompt_text
from neurodial.prompts.template import PLAIN, Template, apply, check_options, formed, template_text

Tokens = tuple[int, ...]


def render(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    system: str | None = None,
    double_bos: bool = False,
    template: Template = PLAIN,
) -> list[Tokens]:
    """Token ids of each prompt, as the model sees it before it answers.

    With a chat template: the template, with the generation prompt; a chat that ends in an assistant message is
    left open after it. Without one: the raw text with the tokenizer's special tokens, without any that it appends.

    Args:
        tokenizer: a transformers tokenizer.
        prompts: texts or chats.
        system: a system message put before each prompt that has none.
        double_bos: render to text and tokenise that with special tokens, as the public code does.
        template: variables for the chat template.

    Raises:
        PromptError: a chat for a tokenizer without a chat template, or a template that refuses a message or loses what
            it says.
        OptionError: the template has no such variable.
    """
    text = template_text(tokenizer, template.options)
    check_options(text, template.options)
    if text is None:
        return [_raw(tokenizer, prompt, system) for prompt in prompts]
    return [_templated(tokenizer, with_system(prompt, system), template, double_bos=double_bos) for prompt in prompts]


def encode(tokenizer: Any, text: str) -> Tokens:
    """A plain text with the special tokens that the tokenizer puts before it, but none after it.

    Example:
        >>> from neurodial.model.tiny import tiny_tokenizer
        >>> encode(tiny_tokenizer(), "a")
        (256, 64)
    """
    tokens = tuple(tokenizer(text)["input_ids"])
    after = appended(tokenizer)
    return tokens[: -len(after)] if after and tokens[-len(after) :] == after else tokens


def appended(tokenizer: Any) -> Tokens:
    """The special tokens that the tokenizer puts after a text; most put none."""
    whole, plain = (tuple(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False))
    starts = range(len(whole) - len(plain), -1, -1)
    start = next((place for place in starts if whole[place : place + len(plain)] == plain), None)
    return () if start is None else whole[start + len(plain) :]


def generation_prompt(tokenizer: Any, prompt: Prompt, template: Template = PLAIN) -> str:
    """What the rendered prompt puts after the last message: the text that the answer continues.

    For a chat that is left open after an answer, that answer; empty without a chat template.
    """
    if template_text(tokenizer, template.options) is None:
        return ""
    messages = as_messages(prompt)
    last = str(messages[-1]["content"]).strip()
    if messages[-1]["role"] == "assistant":
        return last
    messages = formed(tokenizer, messages, template.options)
    closed, opened = (
        str(apply(tokenizer, messages, tokenize=False, add_generation_prompt=opens, **template.options))
        for opens in (False, True)
    )
    return opened.removeprefix(closed) if opened.startswith(closed) else opened.rpartition(last)[2]


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


def post_instruction_length(tokenizer: Any, template: Template = PLAIN) -> int:
    """How many tokens the template puts after the user's text: what `PostInstruction` positions read.

    Two different texts are rendered; the tokens that both end with come from the template.

    Raises:
        PromptError: there is no chat template, or it puts nothing after the user's text.
    """
    if template_text(tokenizer, template.options) is None:
        raise PromptError(
            "This tokenizer has no chat template, so no tokens follow the instruction.",
            fix="Read the last token instead (position 'last').",
        )
    first, second = render(tokenizer, ["one", "two"], template=template)
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    if length == 0:
        raise PromptError("The chat template puts no tokens after the user's text.", fix="Read the last token instead.")
    return length


def with_system(prompt: Prompt, system: str | None) -> Prompt:
    """The prompt with a system message before it, unless it has one or `system` is None."""
    if system is None:
        return prompt
    if isinstance(prompt, str):
        return (Message("system", system), Message("user", prompt))
    return prompt if prompt[0].role == "system" else (Message("system", system), *prompt)


def _templated(tokenizer: Any, prompt: Prompt, template: Template, *, double_bos: bool) -> Tokens:
    messages = as_messages(prompt)
    is_open = messages[-1]["role"] == "assistant"
    options = {**template.options, "add_generation_prompt": not is_open, "continue_final_message": is_open}
    ready = formed(tokenizer, messages, template.options)
    try:
        if double_bos:
            return encode(tokenizer, apply(tokenizer, ready, tokenize=False, **options))
        return tuple(apply(tokenizer, ready, tokenize=True, **options))
    except PromptError as error:
        if is_open and isinstance(error.__cause__, ValueError):
            return _left_open(tokenizer, messages, template, double_bos=double_bos)
        raise


def _left_open(tokenizer: Any, messages: list[dict[str, Any]], template: Template, *, double_bos: bool) -> Tokens:
    """A chat left open after its answer, for templates that take an answer apart, such as at `</think>`.

    transformers looks for the whole answer in the rendered text. Here the end of the answer is marked, and the
    rendered text before the mark is taken.

    Raises:
        PromptError: the template drops the answer's end.
    """
    mark = "\ue000end\ue000"
    marked = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"].rstrip() + mark}]
    text = str(apply(tokenizer, formed(tokenizer, marked, template.options), tokenize=False, **template.options))
    if mark not in text:
        raise PromptError(
            f"The model's chat template drops the end of the answer {messages[-1]['content'][:80]!r}.",
            wanted="an answer that the template renders, after its thinking if it has any",
        )
    text = text[: text.rindex(mark)]
    return encode(tokenizer, text) if double_bos else tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _raw(tokenizer: Any, prompt: Prompt, system: str | None) -> Tokens:
    if not isinstance(prompt, str) or system is not None:
        raise PromptError(
            "This tokenizer has no chat template, so a chat or a system message can't be rendered.",
            wanted="plain text prompts",
            fix="Use a chat model, or give the prompts as text.",
        )
    return encode(tokenizer, prompt_text(prompt))
