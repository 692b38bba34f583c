"""Who may ask: hosts, origins, the token."""

import pytest

from neurodial.errors import OptionError
from neurodial.intervention import base
from neurodial.serve.failure import ApiError
from neurodial.serve.guard import GuardPolicy, check_request
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
    check_request("/v1/models", {"host": host}, GuardPolicy())


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_other_hosts_are_refused(host):
    with pytest.raises(ApiError) as caught:
        check_request("/v1/models", {"host": host}, GuardPolicy(hosts=("good.example",)))
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")


def test_an_allowed_host():
    check_request("/v1/models", {"host": "good.example:8000"}, GuardPolicy(hosts=("good.example",)))
    check_request("/v1/models", {"host": "any.example"}, GuardPolicy(hosts=("*",)))


def test_where_not_every_number_is_taken_this_machines_own_still_are():
    policy = GuardPolicy(any_number=False)
    assert [policy.takes_host(host) for host in GOOD_HOSTS] == [host != "192.168.1.5" for host in GOOD_HOSTS]


def from_page(origin, policy):
    """A request as a page of that origin sends it."""
    headers = {"host": "localhost:8000"} | ({} if origin is None else {"origin": origin})
    check_request("/v1/models", headers, policy)


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "https://localhost:8000", "https://good.example"])
def test_origins_that_may_call(origin):
    from_page(origin, GuardPolicy(origins=("https://good.example",)))


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://localhost", "http://localhost:9000", "http://evil.example", "http://good.example", "file://"],
)
def test_foreign_origins_are_refused(origin):
    with pytest.raises(ApiError) as caught:
        from_page(origin, GuardPolicy(origins=("https://good.example",)))
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")
    from_page(origin, GuardPolicy(origins=("*",)))


def test_another_site_that_sends_no_origin_is_known_by_its_fetch_metadata():
    image = {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    with pytest.raises(ApiError, match="another site"):
        check_request("/v1/models", image, GuardPolicy())
    check_request("/v1/models", {**image, "sec-fetch-mode": "navigate"}, GuardPolicy())
    check_request("/v1/models", {**image, "sec-fetch-site": "same-origin"}, GuardPolicy())
    allowed = {**image, "origin": "https://good.example", "sec-fetch-mode": "cors"}
    check_request("/v1/models", allowed, GuardPolicy(origins=("https://good.example",)))


@pytest.mark.parametrize("length", ["1001", "-1", "many", ""])
def test_a_length_beyond_the_limit_or_none_at_all_is_refused_before_the_body_is_read(length):
    with pytest.raises(ApiError) as caught:
        check_request("/x", {"host": "localhost", "content-length": length}, GuardPolicy(max_body=1000))
    assert caught.value.status == 413
    check_request("/x", {"host": "localhost", "content-length": "1000"}, GuardPolicy(max_body=1000))


@pytest.mark.parametrize(
    "sent", ["", "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer secre", "Bearer secrét"]
)
def test_a_wrong_token_is_refused(sent):
    with pytest.raises(ApiError) as caught:
        with_token(sent, "secret")
    assert (caught.value.status, caught.value.headers) == (401, {"WWW-Authenticate": "Bearer"})


def test_the_right_token_passes():
    with_token("Bearer secret", "secret")
    with_token("bearer  secret ", "secret")
    with_token("", None)
    with_token("", "secret", path="/health")


def with_token(authorization, key, path="/v1/models"):
    check_request(path, {"host": "localhost", "authorization": authorization}, GuardPolicy(api_key=key))


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
