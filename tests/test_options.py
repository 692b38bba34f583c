"""Options are declared once: what is read from a dataclass, and what becomes of what users give."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from neurodial.errors import NeurodialError, OptionError, UnknownNameError
from neurodial.options import SpelledForm, Spelling, changed, noted, option_table, options_of


@dataclass(frozen=True)
class Lid:
    """A lid.

    Attributes:
        colour: of the lid; none: no lid.
        holes: in it.
    """

    colour: Literal["red", "black"] = field(default="red", metadata=noted(name="lid_colour"))
    holes: int = 1


@dataclass(frozen=True)
class Point:
    """A point; a type that needs a spelling."""

    x: int
    y: int


POINT = Spelling(
    lambda text: Point(*map(int, text.split("x"))),
    lambda point: f"{point.x}x{point.y}",
    "AxB",
    lambda: [SpelledForm("a", "b")],
)


@dataclass(frozen=True)
class Kettle:
    """A kettle.

    Attributes:
        degrees: how hot,
            in Celsius.
        litres: how much; none: as much as there is.
        noise: how it calls.
        spouts: where they point.
        names: of its owners.
        lid: of the kettle, or None.
        place: where it stands.
        is_on: whether it is on.
        secret: set by a preset alone.
    """

    degrees: float = 100.0
    litres: int | None = None
    noise: Literal["whistle", "click"] = "click"
    spouts: tuple[int, ...] = (1,)
    names: tuple[str, ...] = ()
    lid: Lid | None = field(default_factory=Lid)
    place: Point = field(default=Point(1, 2), metadata=noted(spelling=POINT))
    is_on: bool = False
    secret: bool = field(default=False, metadata=noted(is_hidden=True))

    def __post_init__(self) -> None:
        if self.litres is None and self.degrees > 500:
            raise OptionError("too hot")


def by_name(options: Any) -> dict[str, Any]:
    return {option.name: option for option in options_of(options)}


def test_names_types_choices_defaults_and_help_are_read():
    found = by_name(Kettle())
    assert list(found) == ["degrees", "litres", "noise", "spouts", "names", "lid_colour", "holes", "place", "is_on"]
    assert (found["degrees"].kind, found["degrees"].help) == (float, "how hot, in Celsius.")
    assert (found["litres"].is_optional, found["degrees"].is_optional) == (True, False)
    assert found["noise"].choices == ("whistle", "click")
    assert (found["spouts"].is_list, found["spouts"].kind) == (True, int)
    assert (found["holes"].path, found["lid_colour"].is_optional) == (("lid", "holes"), True)
    shown = {name: option.shown_default for name, option in found.items()}
    assert shown == {
        "degrees": "100", "litres": "none", "noise": "click", "spouts": "1", "names": "none", "lid_colour": "red",
        "holes": "1", "place": "1x2", "is_on": "False",
    }  # fmt: skip


def test_defaults_are_those_of_the_value():
    found = by_name(Kettle(degrees=60.0, lid=None, place=Point(3, 4)))
    assert [found[name].default for name in ("degrees", "lid_colour", "holes")] == [60.0, None, 1]
    assert found["place"].shown_default == "3x4"


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"degrees": 50}, "degrees", 50.0),
        ({"degrees": "1e1"}, "degrees", 10.0),
        ({"litres": "3"}, "litres", 3),
        ({"litres": None}, "litres", None),
        ({"litres": "None"}, "litres", None),
        ({"noise": "whistle"}, "noise", "whistle"),
        ({"spouts": "1, 2,3"}, "spouts", (1, 2, 3)),
        ({"spouts": [4]}, "spouts", (4,)),
        ({"spouts": "none"}, "spouts", ()),
        ({"names": "a,b"}, "names", ("a", "b")),
        ({"place": "5x6"}, "place", Point(5, 6)),
        ({"is_on": True}, "is_on", True),
        ({"lid_colour": "black"}, "lid", Lid("black", 1)),
        ({"holes": 2}, "lid", Lid("red", 2)),
        ({"lid_colour": "none"}, "lid", None),
    ],
)
def test_what_users_give_takes_its_place(given, field, value):
    made = changed(Kettle(), given)
    assert getattr(made, field) == value
    assert type(getattr(made, field)) is type(value)
    others = [name for name in Kettle.__dataclass_fields__ if name != field]
    assert [getattr(made, name) for name in others] == [getattr(Kettle(), name) for name in others]


def test_an_option_of_what_is_none_brings_it_about():
    assert changed(Kettle(lid=None), {"holes": 2}).lid == Lid("red", 2)


def test_only_the_whole_has_to_make_sense():
    assert changed(Kettle(litres=1, degrees=600.0), {"litres": "none", "degrees": 90}).degrees == 90.0
    with pytest.raises(OptionError, match="too hot"):
        changed(Kettle(), {"degrees": 600})


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"degree": 1}, OptionError, "Kettle has no option degree. Wanted: degrees, litres"),
        ({"secret": True}, OptionError, "no option secret"),
        ({"degrees": "hot"}, OptionError, "degrees is 'hot'. Wanted: a number"),
        ({"degrees": None}, OptionError, "degrees is none"),
        ({"degrees": True}, OptionError, "degrees is True"),
        ({"litres": 1.5}, OptionError, "litres is 1.5. Wanted: a whole number"),
        ({"is_on": "yes"}, OptionError, "is_on is 'yes'. Wanted: true or false"),
        ({"noise": "hiss"}, UnknownNameError, "The noise is 'hiss'"),
        ({"spouts": "1;2"}, OptionError, "spouts is '1;2'. Wanted: whole numbers between commas"),
        ({"lid_colour": "blue"}, UnknownNameError, "Known: black, red"),
        ({"lid_colour": None, "holes": 2}, OptionError, "lid is none, and holes of it is given"),
    ],
)
def test_what_makes_no_sense_is_refused(given, error, words):
    with pytest.raises(NeurodialError) as caught:
        changed(Kettle(), given)
    assert type(caught.value) is error
    assert words in str(caught.value)


def test_a_type_that_nobody_can_type_and_a_field_without_help_are_mistakes():
    @dataclass(frozen=True)
    class Bare:
        """Bare."""

        here: int = 0

    @dataclass(frozen=True)
    class Odd:
        """Odd.

        Attributes:
            here: a point.
        """

        here: frozenset[int] = frozenset()

    with pytest.raises(TypeError, match=r"Bare\.here has no line under Attributes"):
        options_of(Bare())
    with pytest.raises(TypeError, match=r"Odd\.here has type .*spelling"):
        options_of(Odd())


def test_the_table_has_a_line_for_each_option():
    lines = option_table(Kettle()).splitlines()
    assert len(lines) == 2 + len(options_of(Kettle()))
    assert lines[2] == "| `degrees` | a number | `100` | how hot, in Celsius. |"
    assert lines[7].startswith("| `lid_colour` (`lid.colour`) | `red`, `black`, or none | `red` |")
