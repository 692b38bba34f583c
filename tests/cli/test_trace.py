"""`neurodial trace` and `why` as a user types them, on a tiny model saved to a folder."""

import json
import re

import pytest

from neurodial.cli.main import app
from neurodial.cli.trace_output import heat_map
from neurodial.errors import FileError, OptionError, TargetError, UnknownNameError
from neurodial.model.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def run(capsys, *words):
    app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    return capsys.readouterr().out


def traced(capsys, model, *options):
    return json.loads(run(capsys, "trace", model, "Hi there", "--target", "a", "--foil", "b", "--json", *options))


def test_trace_prints_what_a_person_needs(model, capsys):
    text = run(capsys, "trace", model, "Hi there", "-t", "a", "-f", "b", "--count", "4", "--top", "2", "--raw")
    assert "Why 'a' and not 'b'?" in text
    assert "4 nodes" in text
    assert len(re.findall(r"^ [01] .*%", text, re.MULTILINE)) == 2


def neurons(value):
    return sum(kind == "neuron" for kind in value["nodes"]["kind"])


def test_every_option_of_trace_changes_the_result(model, capsys):
    plain = traced(capsys, model)
    assert neurons(plain) == 30
    assert neurons(traced(capsys, model, "--count", "5")) == 5
    assert neurons(traced(capsys, model, "--threshold", "0.5")) < neurons(traced(capsys, model, "--threshold", "0.1"))
    assert neurons(traced(capsys, model, "--mass", "0.9")) > 30
    assert neurons(traced(capsys, model, "--fraction", "0.01")) == round(0.01 * 48 * len(plain["tokens"]))
    assert traced(capsys, model, "--without", "attention,soft-cap")["origin"]["rules"]["attention"] is False
    assert traced(capsys, model, "--without", "attention")["nodes"] != plain["nodes"]
    assert len(traced(capsys, model, "--edge-mass", "0.5")["edges"]["source"]) < len(plain["edges"]["source"])
    assert len(traced(capsys, model, "--raw")["tokens"]) < len(plain["tokens"])
    assert len(traced(capsys, model, "--answer", "xy")["tokens"]) == len(plain["tokens"]) + 2


def test_curves(model, capsys):
    zero, mean, resampled = (
        traced(capsys, model, "--count", "8", "--curve", kind)["curve"] for kind in ("zero", "mean", "resample")
    )
    assert [point["nodes"] for point in zero["points"]] == [1, 2, 4, 8]
    assert len({zero["empty"], mean["empty"], resampled["empty"]}) == 3
    assert traced(capsys, model, "--curve", "mean", "--reference", "diverse")["curve"]["empty"] != mean["empty"]
    assert "faithfulness" in run(capsys, "trace", model, "Hi", "-t", "a", "--curve", "zero")


def test_files_are_written_once(model, capsys, tmp_path):
    graph, dot = tmp_path / "one.trace.json", tmp_path / "one.dot"
    words = ("trace", model, "Hi", "-t", "a", "-o", str(graph), "--dot", str(dot))
    run(capsys, *words)
    assert json.loads(graph.read_text())["format"] == "neurodial.trace"
    assert dot.read_text().startswith("digraph")
    with pytest.raises(FileError, match="exists"):
        run(capsys, *words)
    run(capsys, *words, "--force")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--foil", "a"), TargetError, "same token"),
        (("--foil", "abc"), TargetError, "3 tokens"),
        (("--count", "3", "--mass", "0.5"), OptionError, "2 rules"),
        (("--without", "norms"), UnknownNameError, "Did you mean norm"),
        (("--edge-mass", "2"), OptionError, "edge weight"),
    ],
)
def test_bad_options_are_refused(model, capsys, options, error, message):
    with pytest.raises(error, match=message):
        run(capsys, "trace", model, "Hi", "--target", "a", *options)


# ------------------------------------------------------------------------------------------- why


def explained(capsys, model, *options):
    return json.loads(run(capsys, "why", model, "Hi there", "--json", *options))


def test_why_prints_both_sides(model, capsys):
    text = run(capsys, "why", model, "Hi there", "--produced", "a", "--right", "b")
    assert "Why 'a' and not 'b'?" in text
    assert "for 'a'" in text
    assert "hidden states" in text


def test_why_by_forced_decoding(model, capsys):
    [one] = explained(capsys, model, "--reference", "abc")
    many = explained(capsys, model, "--reference", "abc", "--mistakes", "3")
    assert (one["target"], one["foil"]) == (many[0]["target"], many[0]["foil"])
    assert one["value"] == pytest.approx(many[0]["value"], rel=1e-4)  # a batch sums in another order
    assert len(many) > 1
    assert {graph["foil"] for graph in many} <= set("abc")
    assert all(graph["value"] > 0 for graph in many)


def test_every_option_of_why_changes_the_result(model, capsys):
    pair = ("-p", "a", "-r", "b")
    [plain] = explained(capsys, model, *pair)
    for options in (
        ("--node-threshold", "0.5"),
        ("--edge-mass", "0.3"),
        ("--raw",),
        ("--answer", "x"),
        ("--without", "norm"),
    ):
        [other] = explained(capsys, model, *pair, *options)
        assert other["nodes"] != plain["nodes"] or other["edges"] != plain["edges"], options


def test_the_page_is_self_contained_and_escapes(model, capsys, tmp_path):
    page, dot, graph = tmp_path / "why.html", tmp_path / "why.dot", tmp_path / "why.trace.json"
    words = ("why", model, "<script>", "-p", "a", "-r", "b", "--html", str(page), "--dot", str(dot), "-o", str(graph))
    run(capsys, *words)
    text = page.read_text()
    assert "<script" not in text
    assert not re.search(r"(src|href)=|url\(|@import", text)
    assert text.count("<circle") > 8
    assert dot.exists()
    assert graph.exists()
    with pytest.raises(FileError):
        run(capsys, *words)


@pytest.mark.parametrize(
    "options",
    [(), ("-p", "a"), ("-r", "b"), ("-p", "a", "-r", "b", "--reference", "x"), ("--reference", "x", "--mistakes", "0")],
)
def test_it_must_be_clear_what_is_compared(model, capsys, options):
    with pytest.raises(OptionError):
        run(capsys, "why", model, "Hi", *options)


def test_a_heat_map_colours_by_sign():
    from neurodial.tracing.graph import GraphNode, TraceGraph

    nodes = [GraphNode(str(n), "input", None, n, None, weight, "x") for n, weight in enumerate((2.0, -1.0, 0.0))]
    text = heat_map(TraceGraph(tuple(nodes), (), ("a", "b", "c"), "", "", 1.0))
    styles = [str(span.style) for span in text.spans]
    assert styles == [f"black on rgb({c})" for c in ("247,140,60", "172,202,248", "255,255,255")]
