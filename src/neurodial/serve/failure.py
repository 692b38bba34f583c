"""Errors in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal that reaches the client.

    Attributes:
        status: the HTTP status.
        problem: what came.
        wanted: what was wanted, or None where the problem says it.
        code: a short name for programs, or None.
        param: the field that it concerns, or None.
        headers: headers of the answer.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        *,
        wanted: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.status, self.problem, self.wanted, self.code, self.param = status, problem, wanted, code, param
        self.headers = headers or {}

    @property
    def message(self) -> str:
        """All of it in one text."""
        return self.problem if self.wanted is None else f"{self.problem} Wanted: {self.wanted}."

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return error_body(self.status, self.message, code=self.code, param=self.param)


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The JSON of an error.

    Example:
        >>> error_body(404, "There is no model 'x'.")["error"]["type"]
        'invalid_request_error'
    """
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
