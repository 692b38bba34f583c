"""Data sets by name, without a network: the Hub's rows are stood in for, its absence is real."""

import json

import pytest

from neurodial.errors import FileError, OverlapError, PromptError, UnknownNameError
from neurodial.prompts.borrowed import with_test_set
from neurodial.prompts.hub import DATASETS, load_from_hub, read_dataset
from neurodial.prompts.pairs import PairSet


def rows_of(source):
    """Two rows that a source keeps and one that it does not, where it chooses."""
    column, values = source.keep or ("other", ("x",))
    kept = [{source.column: f"{source.split} {n} {values[0]}", column: values[0]} for n in range(2)]
    return [*kept, {source.column: f"{source.split} left out", column: "something else"}]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_known_set_reads_its_columns(name):
    for kind, source in DATASETS[name].sources.items():
        found = read_dataset(name, kind, load=rows_of)
        assert len(found) == (3 if source.keep is None else 2)
        assert read_dataset(name, kind, limit=1, load=rows_of) == found[:1]


def test_the_issue_s_sets_are_known():
    assert {"jbb", "xstest", "or-bench", "strongreject", "harmbench", "alpaca", "mmlu"} == set(DATASETS)


def test_no_network_says_what_to_do():
    pytest.importorskip("datasets")
    with pytest.raises(PromptError, match="JSONL"):
        load_from_hub(DATASETS["jbb"].sources["harmful"])


def test_a_users_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"Goal": text}) for text in ("a", "b", "a")))
    assert read_dataset(str(path), "harmful") == ("a", "b")
    path.write_text('{"nothing": 1}')
    with pytest.raises(PromptError, match="line 1"):
        read_dataset(str(path), "harmful")
    with pytest.raises(FileError):
        read_dataset(str(tmp_path / "none.jsonl"), "harmful")


def test_unknown_names_and_kinds():
    with pytest.raises(UnknownNameError, match="xstest"):
        read_dataset("xtest", "safe")
    with pytest.raises(PromptError, match="harmful"):
        read_dataset("alpaca", "harmful")


def pairs():
    return PairSet.of([f"Harm {n}" for n in range(10)], [f"Help {n}" for n in range(10)])


def test_another_test_split_leaves_the_others():
    found = with_test_set(pairs(), "jbb", load=rows_of)
    assert [example.prompt for example in found.test.positive] == ["harmful 0 x", "harmful 1 x", "harmful left out"]
    assert [example.prompt for example in found.test.negative] == ["benign 0 x", "benign 1 x", "benign left out"]
    assert found.discovery == pairs().discovery
    assert found.development == pairs().development
    assert found.test != pairs().test


def test_overlap_with_discovery_is_refused():
    seen = pairs().discovery.positive[0].prompt
    with pytest.raises(OverlapError):
        with_test_set(pairs(), "strongreject", load=lambda source: [{"prompt": seen}])
