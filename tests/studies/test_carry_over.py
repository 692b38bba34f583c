"""The study of what carries over: every setting asks what it says, and the tables hold what was measured."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from tests.subjects import circuit_of, shared

import neurodial as nd

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.fixture(scope="module")
def carry_over():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        yield importlib.import_module("carry_over")


@pytest.fixture(scope="module")
def folder(place):
    circuit_of(shared()).write(place / "mine.circuit.json")
    lines = [{"set": "goals", "positive": f"Break {n}", "negative": f"Mend {n}"} for n in range(3)]
    (place / "elsewhere.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def arguments(monkeypatch, folder, output, *more):
    given = [
        "carry_over.py",
        str(folder / "model"),
        f"dose={folder / 'mine.circuit.json'}",
        "--prompts",
        "2",
        "--tokens",
        "2",
    ]
    given += ["--long-tokens", "3", "--long-prompts", "1", "--prompts-file", str(folder / "elsewhere.jsonl")]
    monkeypatch.setattr(sys, "argv", [*given, "-o", str(output), *more])


def test_every_setting_asks_what_it_says(monkeypatch, carry_over, folder, tmp_path):
    arguments(monkeypatch, folder, tmp_path)
    given = carry_over.parsed()
    by_name = {s.name: s for s in carry_over.settings_of(nd.PairSet.read("refusal"), given)}
    assert list(by_name) == ["shipped", "goals", "chat", "system", "sampled", "long"]
    assert [example.prompt for example in by_name["goals"].test.positive] == ["Break 0", "Break 1", "Break 2"]
    [first, *_] = by_name["chat"].test.positive
    shipped = by_name["shipped"].test.positive[0].prompt
    assert [message.role for message in first.prompt] == ["user", "assistant", "user"]
    assert first.prompt[-1].content == shipped
    assert by_name["system"].decoding.system == carry_over.SYSTEM
    assert by_name["sampled"].decoding.temperature == 1.0
    assert by_name["long"].decoding.max_new_tokens == 3
    assert len(by_name["long"].test.positive) == 1


def test_the_study_measures_every_setting_and_writes_figures_alone(monkeypatch, carry_over, folder, tmp_path, capsys):
    arguments(monkeypatch, folder, tmp_path)
    monkeypatch.setattr(carry_over, "AGAINST", ("random",))
    carry_over.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["setting"] for row in report["settings"]] == ["shipped", "goals", "chat", "system", "sampled", "long"]
    for row in report["settings"]:
        assert set(row["methods"]) == {"unsteered", "dose", "random"}
        assert all(values["shown"][3] > 0 for values in row["methods"].values())
    assert "kl" in report["settings"][0]["methods"]["dose"]
    assert "Break" not in json.dumps(report)
    table = capsys.readouterr().out
    assert table.count("\n| ") == 7, "a heading and six settings"
    assert "| bare goals, the shape of JailbreakBench | 3 |" in table


def test_few_prompts_are_added_to_a_report_that_is_there(monkeypatch, carry_over, folder, tmp_path, capsys):
    asked = ["carry_over.py", str(folder / "model"), "--few", "3", "5", "--seeds", "7", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit):
        carry_over.main()
    assert "no report in" in capsys.readouterr().err
    settings = [{"title": "before", "setting": "shipped", "methods": {"dose": {"shown": [0.5, 0.2, 0.8, 4]}}}]
    (tmp_path / "report.json").write_text(json.dumps({"about": {}, "settings": settings, "few": []}))

    def found_on(subject, pairs, given, count, seed):
        if count == 3:
            return [{"prompts": count, "seed": seed, "method": "dose", "failed": "too few"}]
        return [
            {"prompts": count, "seed": seed, "method": "dose", **dict.fromkeys(("shown", "other side"), (0, 0, 1, 9))}
        ]

    monkeypatch.setattr(carry_over, "found_on", found_on)
    carry_over.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["settings"], report["about"]) == (settings, {})
    assert [(row["prompts"], row["seed"]) for row in report["few"]] == [(3, 7), (5, 7)]
    assert report["few_about"]["few"] == [3, 5]
    assert "| 3 | 7 | dose | too few | – | – |" in capsys.readouterr().out
