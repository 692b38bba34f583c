"""Asking an OpenAI-compatible endpoint, patiently: time limits, retries with growing waits, and no guessing."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from neurodial.errors import OptionError

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server that answers chats.

    Attributes:
        url: up to and including the version, such as http://127.0.0.1:8000/v1.
        model: the judge model's name there.
        key: name of the environment variable that holds the key; none is sent where it is empty or not set.
        timeout: seconds to wait for one answer.
        retries: how often an answer is asked for again.
        wait: seconds before the first retry; doubled for each further one.
        workers: answers asked for at once.
        max_tokens: the judge's longest answer.

    Raises:
        OptionError: the address is not http or https, or a number makes no sense.

    Example:
        >>> Endpoint("http://127.0.0.1:8000/v1", "judge").retries
        3
    """

    url: str
    model: str
    key: str = "NEURODIAL_JUDGE_KEY"
    timeout: float = 60.0
    retries: int = 3
    wait: float = 1.0
    workers: int = 4
    max_tokens: int = 512

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise OptionError(f"The judge's address is {self.url!r}.", wanted="http://host:port/v1 or https://…")
        if self.timeout <= 0 or self.retries < 0 or self.wait < 0 or self.workers < 1 or self.max_tokens < 1:
            raise OptionError(
                f"timeout {self.timeout}, retries {self.retries}, wait {self.wait}, workers {self.workers}, "
                f"max_tokens {self.max_tokens}.",
                wanted="a timeout above 0, retries and wait of at least 0, workers and tokens of at least 1",
            )


def ask_all(
    endpoint: Endpoint, chats: Sequence[list[dict[str, str]]], parse: Callable[[str], Parsed | None]
) -> list[Parsed | str]:
    """The parsed answer to every chat, in order; where none came that could be parsed, what went wrong, as text.

    A server that is down, slow or busy (429, 5xx) and an answer that can't be parsed are asked again; any other
    refusal (401, 404) is not.
    """
    bodies = [
        {"model": endpoint.model, "messages": chat, "temperature": 0, "max_tokens": endpoint.max_tokens}
        for chat in chats
    ]
    return ask_each(endpoint, "chat/completions", bodies, parse)


def ask_each(
    endpoint: Endpoint, route: str, bodies: Sequence[Mapping[str, Any]], parse: Callable[[str], Parsed | None]
) -> list[Parsed | str]:
    """The same for requests of any kind that is answered with one text: `chat/completions` or `completions`."""
    with ThreadPoolExecutor(endpoint.workers) as pool:
        return list(pool.map(lambda body: _patiently(endpoint, (route, body), parse), bodies))


def _patiently(
    endpoint: Endpoint, asked: tuple[str, Mapping[str, Any]], parse: Callable[[str], Parsed | None]
) -> Parsed | str:
    problem = "not asked"
    for attempt in range(endpoint.retries + 1):
        if attempt:
            time.sleep(endpoint.wait * 2 ** (attempt - 1))
        try:
            text = _ask(endpoint, *asked)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            if error.code != 429 and error.code < 500:
                return f"judge refused: {problem}"
            continue
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        parsed = parse(text)
        if parsed is not None:
            return parsed
        problem = f"answer not understood: {text[:80]!r}"
    return f"judge failed: {problem}"


def _ask(endpoint: Endpoint, route: str, body: Mapping[str, Any]) -> str:
    headers = {"Content-Type": "application/json"}
    key = os.environ.get(endpoint.key, "") if endpoint.key else ""
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(  # noqa: S310  # the scheme was checked when the endpoint was made
        f"{endpoint.url.rstrip('/')}/{route}", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=endpoint.timeout) as response:  # noqa: S310
        value: Any = json.loads(response.read())
    choice: Any = value["choices"][0]
    content: Any = choice["message"]["content"] if "message" in choice else choice["text"]
    if not isinstance(content, str):
        raise TypeError("the judge's answer holds no text")
    return content
