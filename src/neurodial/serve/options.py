"""How the engine and the server run. Torch-free: the command line reads this too."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neurodial.errors import OptionError
from neurodial.intervention.when import When, read_when

MAX_DIAL = 100.0


@dataclass(frozen=True)
class EngineOptions:
    """How requests share the model.

    Attributes:
        max_batch: requests that share one pass.
        max_queue: requests that may wait beyond those; more are told to come again later (429).
        prompt_budget: tokens of prompts, padding included, that pass together while running answers wait.
        when: which tokens are steered: all, those of the prompt, the generated ones, or of those only what is thinking,
            the answer, or calls of tools; with :k only the first k that are generated, as in generated:8.
        force: take circuits that were made on another model, if the shape allows.

    Raises:
        OptionError: a number is too small.
        UnknownNameError: `when` names no tokens.

    Example:
        >>> EngineOptions(max_batch=4).max_queue
        64
    """

    max_batch: int = 16
    max_queue: int = 64
    prompt_budget: int = 4096
    when: When = "all"
    force: bool = False

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_queue < 0 or self.prompt_budget < 1:
            raise OptionError(
                f"max_batch is {self.max_batch}, max_queue {self.max_queue}, prompt_budget {self.prompt_budget}.",
                wanted="at least 1, 0 and 1",
            )
        read_when(self.when)


@dataclass(frozen=True)
class ServerOptions:
    """What the server takes.

    Attributes:
        max_dial: the largest size of a circuit's dial, all that a request adds up included.
        max_tokens: the longest answer where a chat request names no length.
        timeout: seconds that a request may take, waiting included.
        max_body: bytes of a request's body.
        api_key: ask for this bearer token; better set NEURODIAL_API_KEY, which process lists don't show.
        allow_host: names that requests may be addressed to, beside localhost and plain addresses.
        allow_origin: web origins whose pages may call, such as https://example.org; * for all.
        grace: seconds that running requests have to end at a shutdown.

    Raises:
        OptionError: a number makes no sense, or the key is empty.

    Example:
        >>> ServerOptions(max_dial=2.0).timeout
        300.0
    """

    max_dial: float = 8.0
    max_tokens: int = 1024
    timeout: float = 300.0
    max_body: int = 1 << 20
    api_key: str | None = None
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    grace: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.max_dial <= MAX_DIAL:
            raise OptionError(f"The largest dial is {self.max_dial}.", wanted=f"a number above 0, at most {MAX_DIAL:g}")
        numbers = (self.max_tokens, self.timeout, self.max_body)
        if not all(math.isfinite(value) and value > 0 for value in numbers) or not 0 <= self.grace < math.inf:
            raise OptionError(
                f"max_tokens is {self.max_tokens}, timeout {self.timeout}, max_body {self.max_body}, "
                f"grace {self.grace}.",
                wanted="numbers above 0 (a grace of 0 is allowed)",
            )
        if self.api_key is not None and not self.api_key.strip():
            raise OptionError("The API key is empty.", wanted="a secret text, or none")
