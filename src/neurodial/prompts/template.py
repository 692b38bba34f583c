"""The options of a chat template, and the form in which it takes the content of messages. Torch-free.

1. A template may take variables of its own, such as `enable_thinking`; one that it does not name is refused.
2. Templates want content as a text or as a list of parts. A probe with the roles of the chat is rendered as texts;
   roles whose text does not come through are tried as parts, and if that fails too, the chat is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from neurodial.errors import OptionError, PromptError, near_names
from neurodial.provenance import canonical_json

Messages = list[dict[str, Any]]

_OURS = frozenset({
    "messages", "conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize",
    "return_dict", "return_tensors", "return_assistant_tokens_mask", "padding", "truncation", "max_length",
    "tokenizer_kwargs", "bos_token", "eos_token",
})  # fmt: skip


@dataclass(frozen=True)
class Template:
    """How a model's prompts are rendered, where that differs from the tokenizer's defaults.

    Attributes:
        options: variables of the chat template, as JSON values.
        thinking_markers: the texts that begin and end thinking; None: found from template, tokenizer and answers.

    Raises:
        OptionError: a variable is one that rendering itself sets or no JSON value, or a marker is empty.

    Example:
        >>> Template({"enable_thinking": False}).options["enable_thinking"]
        False
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    thinking_markers: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        for name, value in self.options.items():
            if name in _OURS or not name.isidentifier():
                raise OptionError(
                    f"The template option {name!r} can't be set.", wanted="a variable that the chat template reads"
                )
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise OptionError(f"The template option {name} is {value!r}.", wanted="a JSON value") from error
        markers = self.thinking_markers
        if markers is not None and (len(markers) != 2 or not all(text.strip() for text in markers)):
            raise OptionError(f"The thinking markers are {markers!r}.", wanted="two, such as <think> and </think>")

    def updated(self, options: Mapping[str, Any]) -> Template:
        """The same with further options, which win."""
        return Template({**self.options, **options}, self.thinking_markers) if options else self


PLAIN = Template()
"""The tokenizer's defaults."""


def template_text(tokenizer: Any, options: Mapping[str, Any] | None = None) -> str | None:
    """The chat template that the tokenizer uses, or None; of several, the one that it would choose."""
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, Mapping):
        return template
    if (options or {}).get("tools") and "tool_use" in template:
        return str(template["tool_use"])
    if "default" not in template:
        raise PromptError(
            f"The tokenizer has {len(template)} chat templates, none of them the default: {', '.join(template)}.",
            fix="Set tokenizer.chat_template to the text of one.",
        )
    return str(template["default"])


def names_variable(text: str, name: str) -> bool:
    """Whether a template's text names a variable.

    Example:
        >>> names_variable("{% if enable_thinking %}", "thinking")
        False
    """
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def check_options(text: str | None, options: Mapping[str, Any]) -> None:
    """Refuse options that a template would ignore in silence.

    Raises:
        OptionError: names the option.
    """
    for name in options:
        if text is None:
            raise OptionError(f"The template option {name} came, but the tokenizer has no chat template.")
        if not names_variable(text, name):
            blocks = re.findall(r"{[{%].*?[%}]}", text, flags=re.DOTALL)
            known = {word for block in blocks for word in re.findall(r"(?<![\w.'\"])[a-z]\w{3,}(?!\w)", block)}
            raise OptionError(
                f"The chat template has no variable {name!r}.",
                wanted="a variable that it reads",
                fix=near_names(name, sorted(known)),
            )


def apply(tokenizer: Any, messages: Messages, *, tokenize: bool, **options: Any) -> Any:
    """The tokenizer's own rendering.

    Raises:
        PromptError: the template refuses the chat, or fails on it.
    """
    try:
        more = {"return_dict": False} if tokenize else {}
        return tokenizer.apply_chat_template(messages, tokenize=tokenize, **more, **options)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        raise _refused(messages, error) from error
    except Exception as error:
        if type(error).__module__.startswith("jinja2"):
            raise _refused(messages, error) from error
        raise


def formed(tokenizer: Any, messages: Messages, options: Mapping[str, Any]) -> Messages:
    """The messages with each content in the form that the template wants (2).

    Raises:
        PromptError: names the role whose text the template loses, or what it refuses.
    """
    as_parts = _roles_as_parts(tokenizer, messages, options)
    return _in_form(messages, as_parts) if as_parts else messages


def wants_parts(tokenizer: Any, options: Mapping[str, Any]) -> bool:
    """Whether the content of a user's message goes to the template as a list of parts; false where it is refused."""
    try:
        return bool(_roles_as_parts(tokenizer, [{"role": "user", "content": "x"}], options))
    except PromptError:
        return False


_known: WeakKeyDictionary[Any, dict[str, frozenset[str]]] = WeakKeyDictionary()
_PROBE_LENGTH = 40


def _roles_as_parts(tokenizer: Any, messages: Messages, options: Mapping[str, Any]) -> frozenset[str]:
    shape = [{**message, "content": bool(message["content"])} for message in messages]
    key = canonical_json([template_text(tokenizer, options), options, shape])
    known = _known.setdefault(tokenizer, {})
    if key not in known:
        known[key] = _probed(tokenizer, messages, options)
    return known[key]


def _probed(tokenizer: Any, messages: Messages, options: Mapping[str, Any]) -> frozenset[str]:
    probes = [_probe(place) if message["content"] else "" for place, message in enumerate(messages)]
    probing = [{**message, "content": probe} for message, probe in zip(messages, probes, strict=True)]
    roles = frozenset(message["role"] for message, probe in zip(messages, probes, strict=True) if probe)

    def lost(as_parts: frozenset[str]) -> frozenset[str]:
        """The roles of which no text comes through."""
        text = str(apply(tokenizer, _in_form(probing, as_parts), tokenize=False, **options))
        if "{'type':" in text:  # the list itself was printed
            return roles
        rendered = {m["role"] for m, probe in zip(messages, probes, strict=True) if probe and probe in text}
        return roles - rendered

    refusal: PromptError | None = None
    lost_as_text = roles
    try:
        lost_as_text = lost(frozenset())
        if not lost_as_text:
            _check_calls(tokenizer, probing, options)
            return frozenset()
    except PromptError as error:
        refusal = error
    for as_parts in dict.fromkeys((lost_as_text, roles)):
        try:
            if not lost(as_parts):
                _check_calls(tokenizer, _in_form(probing, as_parts), options)
                return as_parts
        except PromptError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    raise PromptError(
        f"The model's chat template loses what the {' and the '.join(sorted(lost_as_text))} says: a probe text does "
        "not come out of it, neither as a text nor as a list of parts.",
        wanted="a template that renders every message",
        fix="Is it the template of this model? Set tokenizer.chat_template, or leave out such messages.",
    )


def _check_calls(tokenizer: Any, messages: Messages, options: Mapping[str, Any]) -> None:
    """Refuse tool calls that the template leaves out."""
    names = [call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()]
    if not names:
        return
    text = str(apply(tokenizer, messages, tokenize=False, **options))
    missing = next((name for name in names if name not in text), None)
    if missing is not None:
        raise PromptError(
            f"The model's chat template leaves out tool calls, such as that of {missing!r}.",
            wanted="a model whose template renders them, or a chat without",
        )


def _probe(place: int) -> str:
    """A word that no template contains by itself, different for each message."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(place))
    return f"zq{letters}{'x' * _PROBE_LENGTH}z"


def _in_form(messages: Sequence[dict[str, Any]], as_parts: frozenset[str]) -> Messages:
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if message["role"] in as_parts and isinstance(message["content"], str)
        else message
        for message in messages
    ]


def _refused(messages: Messages, error: Exception) -> PromptError:
    roles = ", ".join(message["role"] for message in messages)
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return PromptError(f"The model's chat template refuses a chat of {roles}: {reason.rstrip('.')}.")
