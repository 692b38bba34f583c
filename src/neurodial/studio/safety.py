"""What the studio lets in, and what its pages may load: the policy of the guard that stands before every request.

Answers may not be framed, sniffed or cached, and pages load nothing from elsewhere.
"""

from __future__ import annotations

from neurodial.serve.failure import ApiError
from neurodial.serve.guard import GuardPolicy

BODY_LIMIT = 1_000_000
"""Bytes of a request's body."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'"
)
"""For reports: they hold text that models wrote, and need no scripts."""
NEURON_POLICY = REPORT_POLICY.replace("sandbox;", "sandbox allow-same-origin;")
"""For a neuron's page: no script either, but the studio's own page may measure how tall it is."""
_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  # compared with, not bound to


def studio_policy(host: str = "127.0.0.1") -> GuardPolicy:
    """The policy of a studio that listens on an address.

    A server bound to every address has many; numeric ones are taken then, since rebinding needs a name.

    Example:
        >>> policy = studio_policy("127.0.0.1")
        >>> policy.takes_host("localhost:8421"), policy.takes_host("evil.example:8421")
        (True, False)
    """
    return GuardPolicy(
        hosts=(host,),
        any_number=host in _EVERY_ADDRESS,
        max_body=BODY_LIMIT,
        headers={
            "content-security-policy": PAGE_POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-cache",
        },
        wanted_host="this server's own address, as the terminal shows it; start with --host to listen elsewhere",
        wanted_origin="the studio's own page: other sites may not use this server",
    )


def refusal_in_words(error: ApiError) -> dict[str, dict[str, str | None]]:
    """A refusal as the page shows it."""
    return {"error": {"problem": error.problem, "wanted": error.wanted, "fix": None}}
