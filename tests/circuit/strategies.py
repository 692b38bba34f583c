"""Circuits to test with: random ones, of models of several layers of different width, and of experts."""

from dataclasses import replace

from hypothesis import strategies as st

from neurodial.circuit.circuit import Circuit, Origin, Row, Stability
from neurodial.circuit.prompt_condition import PromptCondition, SideRate
from neurodial.circuit.report import (
    CostReport,
    DoseReport,
    Goal,
    Measured,
    NeutralAnswers,
    Predicted,
    Reached,
    TrialReport,
)
from neurodial.circuit.site import Neuron
from neurodial.provenance import ModelIdentity

WIDTHS = (5, 3, 8)
MODEL = ModelIdentity("tiny", "llama", "a" * 64, None, "b" * 64, "c" * 64, "float32", WIDTHS)
ALL_NEURONS = [Neuron(layer, None, index) for layer, width in enumerate(WIDTHS) for index in range(width)]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=5))
SHARES = st.floats(0, 1)
REPORTS = st.builds(
    DoseReport,
    margin=st.sampled_from(["Openers", "AnswerMargin"]),
    neutral=st.builds(NeutralAnswers, st.text(max_size=5), st.text(max_size=5), st.none() | st.integers(0, 9)),
    cost=st.none() | st.builds(CostReport, st.integers(1, 999), SHARES),
    goal=st.builds(Goal, st.none() | SHARES, st.none() | FINITE, st.booleans()),
    predicted=st.none() | st.builds(Predicted, FINITE, FINITE, SHARES),
    measured=st.builds(Measured, FINITE, FINITE, FINITE, FINITE, FINITE, SHARES, SHARES, st.integers(1, 99)),
    trials=st.lists(st.builds(TrialReport, SHARES, SHARES, FINITE, SHARES, SHARES), max_size=2).map(tuple),
    openers=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    coverage=st.dictionaries(st.sampled_from(["positive", "negative"]), st.none() | SHARES),
    candidates=st.dictionaries(st.sampled_from(["0.1", "2.7"]), st.builds(Reached, FINITE, SHARES)),
    signs=st.dictionaries(st.sampled_from(["positive", "both"]), st.builds(Reached, FINITE, SHARES)),
)


def neurons(*, dense: bool = True) -> st.SearchStrategy[Neuron]:
    experts = st.none() if dense else st.none() | st.integers(0, 3)
    return st.sampled_from(ALL_NEURONS).flatmap(lambda n: experts.map(lambda e: n._replace(expert=e)))


@st.composite
def rows(draw, *, dense: bool = True, least: int = 0, most: int = len(ALL_NEURONS)) -> list[Row]:
    chosen = draw(st.lists(neurons(dense=dense), unique=True, min_size=least, max_size=most))
    return [Row(neuron, draw(FINITE), draw(FINITE)) for neuron in chosen]


@st.composite
def origins(draw) -> Origin:
    return Origin(
        model=draw(st.none() | st.just(MODEL)),
        method=draw(JSON),
        prompts=draw(JSON),
        universal=draw(st.none() | JSON),
        versions=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5))),
        seed=draw(st.none() | st.integers()),
        created=draw(st.text(max_size=10)),
        report=draw(st.none() | REPORTS),
        behaviour=draw(st.none() | st.text(max_size=5)),
        margin=draw(st.none() | JSON),
    )


@st.composite
def circuits(draw, *, dense: bool = True, least: int = 0, most: int = len(ALL_NEURONS)) -> Circuit:
    """Circuits of one model, without stability."""
    return Circuit.of(draw(rows(dense=dense, least=least, most=most)), origin=Origin(model=MODEL))


@st.composite
def conditions(draw) -> PromptCondition:
    """Readings of neurons or of a layer."""
    read = draw(st.lists(neurons(dense=False), unique=True, min_size=0, max_size=4))
    size = len(read) or 3
    return PromptCondition(
        reading="projection" if read else "direction",
        threshold=draw(FINITE),
        weights=tuple(draw(st.lists(FINITE, min_size=size, max_size=size))),
        positive=SideRate(draw(st.integers(0, 9)), 9),
        negative=SideRate(draw(st.integers(0, 9)), 9),
        false_positive_rate=draw(SHARES),
        neurons=tuple(read),
        layer=None if read else 2,
        prompts=draw(JSON),
    )


@st.composite
def whole_circuits(draw) -> Circuit:
    """Circuits with everything that a file holds."""
    dense = draw(st.booleans())
    visits = st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9))
    found = [row if row.neuron.expert is None else row._replace(visits=draw(visits)) for row in draw(rows(dense=dense))]
    origin = draw(origins())
    if not dense and origin.model is not None:
        origin = replace(origin, model=replace(MODEL, experts=tuple((4, width) for width in WIDTHS)))
    folds = draw(st.lists(SHARES, min_size=1, max_size=4))
    kept = [draw(SHARES) for _ in found]
    return Circuit.of(
        found,
        name=draw(st.text(max_size=10)),
        direction=draw(st.sampled_from(["remove", "induce"])),
        origin=origin,
        stability=draw(st.none() | st.just(Stability(tuple(folds), tuple(kept)))),
        condition=draw(st.none() | conditions()),
    )
