"""The numbers of an evaluation in a model card's front matter, in the Hub's own form."""

import pytest
import yaml

from neurodial.cli.export_command import _results
from neurodial.errors import OptionError
from neurodial.evaluation.intervals import rate
from neurodial.evaluation.results import ConditionResult, Report, report_json
from neurodial.export.card import CardResult, add_results

CARD = '---\nbase_model: "tiny"\ntags:\n- neurodial\n---\n\n# mine\n\ntext --- with dashes\n'


@pytest.fixture
def report(tmp_path):
    def measured(shown):
        return {"rate:refusal": rate([n < shown for n in range(10)])}

    conditions = (
        ConditionResult("unsteered", "unsteered", 0.0, {}, measured(8), {}),
        ConditionResult("circuit", "mine", 1.0, {}, measured(1), {}),
        ConditionResult("circuit", "mine", 0.5, {}, measured(4), {}),
    )
    (tmp_path / "report.json").write_text(report_json(Report("refusal", {"refusal": "Ours."}, conditions)))
    return tmp_path


def test_the_card_s_front_matter_holds_the_numbers_of_the_circuit_at_its_dial(report, tmp_path):
    results = _results(report, [("mine", 1.0)])
    assert [result.value for result in results] == [80.0, 10.0], "unsteered first"
    (tmp_path / "README.md").write_text(CARD)
    add_results(tmp_path, 'my "circuit"', results)
    opening, front, rest = (tmp_path / "README.md").read_text().split("---\n", maxsplit=2)
    values = yaml.safe_load(front)
    assert opening == ""
    assert rest == CARD.split("---\n", maxsplit=2)[2]
    assert values["base_model"] == "tiny"
    [model] = values["model-index"]
    assert model["name"] == 'my "circuit"'
    steered = model["results"][1]
    assert steered["task"] == {"type": "text-generation"}
    assert steered["dataset"]["name"] == "refusal, test prompts of neurodial"
    [metric] = steered["metrics"]
    assert metric["value"] == 10.0
    assert "mine at dial 1" in metric["name"]
    assert "n = 10" in metric["name"]


def test_the_hub_s_own_reader_takes_it(tmp_path):
    from huggingface_hub import ModelCard

    (tmp_path / "README.md").write_text(CARD)
    add_results(tmp_path, "mine", [CardResult("rate:refusal", "Refusal", 10.0, "refusal")])
    [result] = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert (result.metric_type, result.metric_value, result.task_type) == ("rate:refusal", 10.0, "text-generation")


def test_a_report_of_other_circuits_is_refused(report):
    with pytest.raises(OptionError, match=r"no numbers on other@1.*mine@1, mine@0\.5"):
        _results(report, [("other", 1.0)])
