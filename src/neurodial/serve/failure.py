"""Errors in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal that reaches the client.

    Attributes:
        status: the HTTP status.
        message: what came, what was wanted, what to do.
        code: a short name for programs, or None.
        param: the field that it concerns, or None.
        headers: headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

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
