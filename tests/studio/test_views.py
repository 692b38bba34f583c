"""View models are plain values made from circuits and scores alone."""

import base64
import json

import numpy as np
import pytest
from inline_snapshot import snapshot
from tests.studio.conftest import small_circuit

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.studio.views import DRAWN, circuit_view, histogram, overlap_view, scores_view

SCORES = {Site(0): np.array([0.5, -3.0, 1.0]), Site(1): np.array([0.0, 2.0, -2.0, 4.0])}
CHOSEN = Circuit.of([Row(Neuron(0, None, 1), -3.0, 1.0), Row(Neuron(1, None, 1), 2.0, 1.0)], name="two")


def unpacked(text, kind):
    return np.frombuffer(base64.b64decode(text), kind).tolist()


def test_circuit_view():
    assert circuit_view("polite", small_circuit()) == snapshot(
        {
            "id": "polite",
            "name": "polite",
            "direction": "remove",
            "neurons": 6,
            "share": None,
            "rows": [
                [0, 3, -6.0, 1.3, 1.0],
                [0, 7, -2.0, 1.7, 0.5],
                [0, 11, 2.0, 2.1, 1.0],
                [1, 3, -6.0, 1.3, 1.0],
                [1, 7, -2.0, 1.7, 1.0],
                [1, 11, 2.0, 2.1, 0.5],
            ],
            "layers": [3, 3],
            "stability": {"overlaps": [1.0, 0.5], "mean": 0.75, "low": 0.5},
            "model": None,
            "method": {"kind": "CNA", "score": "delta", "position": "Last"},
            "prompts": {"positive": 60, "negative": 60},
            "universal": {"flagged": 2, "removed": [[1, 5]]},
            "report": None,
            "created": "2026-01-01T00:00:00+00:00",
            "versions": {},
        }
    )


def test_a_circuit_made_by_hand_has_no_stability_and_no_report():
    view = circuit_view("two", CHOSEN)
    assert (view["stability"], view["report"], view["universal"], view["share"]) == (None, None, None, None)
    assert view["layers"] == [1, 1]


def test_scores_view_orders_each_layer_by_strength():
    view = scores_view(SCORES, CHOSEN)
    assert [unpacked(layer["index"], "<u4") for layer in view["layers"]] == [[1, 2, 0], [3, 1, 2, 0]]
    assert [unpacked(layer["score"], "<f4") for layer in view["layers"]] == [[-3, 1, 0.5], [4, 2, -2, 0]]
    del view["layers"]
    assert view == snapshot(
        {
            "neurons": 7,
            "largest": 4.0,
            "chosen": [[0, 0], [1, 1]],
            "removed": [],
            "cutoff": 2.0,
            "histogram": {
                "low": -3.0,
                "high": 4.0,
                "counts": [
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    1,
                ],
                "chosen": [
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                ],
            },
        }
    )
    json.dumps(view, allow_nan=False)


def test_removed_universal_neurons_have_their_place_on_the_map():
    circuit = small_circuit()
    scores = {Site(layer): np.arange(24.0) for layer in (0, 1)}
    assert scores_view(scores, circuit)["removed"] == [[1, 18]], "index 5 is the nineteenth strongest of 24"


def test_a_wide_layer_is_drawn_as_far_as_its_strongest():
    view = scores_view({Site(0): np.linspace(0, 1, DRAWN + 10)}, CHOSEN.in_layers([0]))
    assert len(unpacked(view["layers"][0]["index"], "<u4")) == DRAWN
    assert view["layers"][0]["width"] == DRAWN + 10
    assert sum(view["histogram"]["counts"]) == DRAWN + 10, "the histogram counts all of them"


def test_fifty_thousand_neurons_stay_small():
    generator = np.random.default_rng(0)
    scores = {Site(layer): generator.normal(size=1536) for layer in range(33)}
    assert len(json.dumps(scores_view(scores, CHOSEN))) < 600_000


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [-1.0, 0.0, 5.0]])
def test_a_histogram_counts_everything_once(values):
    found = histogram(np.array(values), values)
    assert sum(found["counts"]) == sum(found["chosen"]) == len(values)


def test_overlap_view():
    other = Circuit.of([Row(Neuron(0, None, 1), 1.0, 2.0), Row(Neuron(1, None, 9), 1.0, 1.0)], name="other")
    assert overlap_view(CHOSEN, other) == snapshot(
        {
            "first": {"name": "two", "neurons": 2},
            "second": {"name": "other", "neurons": 2},
            "shared": 1,
            "jaccard": 0.33333,
            "expected": None,
            "same_sign": 0.0,
            "by_layer": [[0, 1, 1, 1], [1, 1, 1, 0]],
            "rows": [[0, 1, -3.0, 1.0, 1.0, 2.0]],
        }
    )
