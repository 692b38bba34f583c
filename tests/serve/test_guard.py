"""Who may ask: hosts, origins, the token."""

import pytest

from neurodial.errors import OptionError
from neurodial.intervention import base
from neurodial.serve.failure import ApiError
from neurodial.serve.guard import check_host, check_origin, check_token
from neurodial.serve.options import MAX_DIAL, ServerOptions

GOOD_HOSTS = [
    "localhost",
    "localhost:8000",
    "127.0.0.1:8000",
    "[::1]:8000",
    "192.168.1.5",
    "a.localhost:1",
    "LOCALHOST",
]
BAD_HOSTS = ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "evil.example:8000", "[", "x:y"]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_hosts_that_no_name_can_be_rebound_to(host):
    check_host(host, ())


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_other_hosts_are_refused(host):
    with pytest.raises(ApiError) as caught:
        check_host(host, ("good.example",))
    assert caught.value.status == 403


def test_an_allowed_host():
    check_host("good.example:8000", ("good.example",))
    check_host("any.example", ("*",))


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "https://localhost:8000", "https://good.example"])
def test_origins_that_may_call(origin):
    check_origin(origin, "localhost:8000", ("https://good.example",))


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://localhost", "http://localhost:9000", "http://evil.example", "http://good.example", "file://"],
)
def test_foreign_origins_are_refused(origin):
    with pytest.raises(ApiError) as caught:
        check_origin(origin, "localhost:8000", ("https://good.example",))
    assert caught.value.status == 403
    check_origin(origin, "localhost:8000", ("*",))


@pytest.mark.parametrize(
    "sent", ["", "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer secre", "Bearer secrét"]
)
def test_a_wrong_token_is_refused(sent):
    with pytest.raises(ApiError) as caught:
        check_token(sent, "secret")
    assert (caught.value.status, caught.value.headers) == (401, {"WWW-Authenticate": "Bearer"})


def test_the_right_token_passes():
    check_token("Bearer secret", "secret")
    check_token("bearer  secret ", "secret")
    check_token("", None)


@pytest.mark.parametrize(
    "options",
    [
        {"max_dial": 0.0},
        {"max_dial": 101.0},
        {"max_dial": float("nan")},
        {"timeout": 0.0},
        {"timeout": float("inf")},
        {"max_tokens": 0},
        {"max_body": -1},
        {"grace": -1.0},
        {"grace": float("inf")},
        {"api_key": " "},
    ],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(OptionError):
        ServerOptions(**options)


def test_the_largest_dial_of_all_is_that_of_interventions():
    """The command line reads the options without torch, so the number stands twice."""
    assert MAX_DIAL == base.MAX_DIAL
