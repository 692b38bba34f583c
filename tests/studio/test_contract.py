"""The reader of the page's types finds what does not fit, and every address that the page asks has a type."""

import re

import pytest
from tests.studio.contract import RESULTS, TYPES, answer_type, declared, misfits

from neurodial.studio.app import static_folder

SMALL = declared("""
/** A thing; with: a comment. */
export interface Thing {
  name: string;
  count?: number | null;
  pairs: [number, string][];
  side: "left" | "right";
  more: Record<string, Thing>;
}
export interface Open extends Record<string, unknown> {
  how: string;
}
export type Things = (Thing | null)[];
""")
GOOD = {"name": "one", "pairs": [[1, "a"]], "side": "left", "more": {}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"count": None}, []),
        ({"count": 2.5, "more": {"inner": GOOD}}, []),
        ({"name": None}, [".name is 'None', wanted string"]),
        ({"count": "2"}, [".count is '2', wanted number"]),
        ({"count": True}, [".count is 'True', wanted number"]),
        ({"pairs": [[1, "a"], [1]]}, [".pairs[1] is '[1]', wanted [number, string]"]),
        ({"pairs": [["a", 1]]}, [".pairs[0][0] is 'a', wanted number", ".pairs[0][1] is '1', wanted string"]),
        ({"side": "middle"}, [".side is 'middle', wanted \"left\""]),
        ({"surprise": 1}, [".surprise is not in Thing"]),
        ({"more": {"inner": {**GOOD, "side": 3}}}, [".more.inner.side is '3', wanted \"left\""]),
        ({"more": []}, [".more is '[]', wanted Record<string, Thing>"]),
    ],
)
def test_what_does_not_fit_is_said(changes, words):
    assert misfits({**GOOD, **changes}, "Thing", SMALL) == words


def test_a_missing_field_an_open_interface_and_an_alias():
    lacking = {key: value for key, value in GOOD.items() if key != "side"}
    assert misfits(lacking, "Thing", SMALL) == [".side is missing"]
    assert misfits({"how": "so", "other": 1}, "Open", SMALL) == []
    assert misfits([GOOD, None], "Things", SMALL) == []
    assert misfits([GOOD, 1], "Things", SMALL) == ["[1] is '1', wanted Thing"]


def test_every_address_of_the_page_has_a_declared_type():
    script = (static_folder() / "js" / "server.js").read_text(encoding="utf-8")
    asked = re.findall(r"=> (get|post|remove)\((?:`|\")([^`\"]+)", script)
    assert len(asked) > 20
    types = declared(TYPES.read_text(encoding="utf-8"))
    for verb, address in asked:
        path = re.sub(r"\$\{[^}]+\}", "1", address)
        method = {"get": "GET", "post": "POST", "remove": "DELETE"}[verb]
        kinds = RESULTS.values() if path.endswith("/result") else [answer_type(method, path)]
        for kind in kinds:
            assert kind is not None, f"{method} {path}"
            assert kind.removesuffix("[]") in {*types, "string"}, kind
