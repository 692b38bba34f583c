"""Files given to the wrong command, misspelt names and prompts that are few: what the command line says."""

import json

import pytest
from tests.cli.test_cli import circuit, fail, flat, found, here, model, no_model, prompts  # noqa: F401  # fixtures

from neurodial.cli.main import main


@pytest.fixture
def files(here, circuit):  # noqa: F811
    (here / "lists.jsonl").write_text('{"positive": "List a", "negative": "Tell a"}\n' * 2)
    (here / "mine.circuit.json").write_text(circuit.read_text())
    (here / "report").mkdir()
    (here / "report" / "report.json").write_text('{"format": "neurodial.report"}')
    (here / "bytes.dat").write_bytes(b"\x00\x01")
    return here


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "lists.jsonl"], "is no circuit. Wanted: a .circuit.json file. It looks like contrasted prompts"),
        (["show", "list.circuit.json"], "Did you mean mine.circuit.json"),
        (["show", "."], "mine.circuit.json is a circuit in it"),
        (["show", "report"], "It is a report: open report/report.html"),
        (["behaviours", "mine.circuit.json"], "is no behaviour. Wanted: contrasted prompts. It is a circuit"),
        (["behaviours", "report/report.json"], "is no behaviour. Wanted: contrasted prompts. It is a report"),
        (["behaviours", "bytes.dat"], "It is no text."),
        (["behaviours", "list.jsonl"], "Did you mean lists.jsonl?"),
        (["behaviours", "lists.jsn"], "Did you mean lists.jsonl?"),
        (["discover", "demo-bse", "-b", "refusal"], "There is no model 'demo-bse'"),
        (["discover", "./no-model", "-b", "refusal"], "Nothing stands at this path"),
    ],
)
def test_a_wrong_name_or_file_is_told_apart_and_the_right_one_offered(files, capsys, no_model, arguments, words):  # noqa: F811
    code, error = fail(capsys, *arguments)
    assert code == 1
    assert words in error.replace("./", "")


@pytest.mark.parametrize("header", ["Positive;Negative", "POSITIVE ; NEGATIVE", "positive\tnegative"])
def test_semicolons_and_capitals_are_read(here, capsys, header):  # noqa: F811
    mark = ";" if ";" in header else "\t"
    rows = [f"List {n}{mark}Tell {n}" for n in range(5)]
    (here / "semi.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(SystemExit) as stopped:
        main(["behaviours", "semi.csv", "--json"])
    assert not stopped.value.code
    read = json.loads(capsys.readouterr().out)
    assert [part["positive"] for part in read["splits"].values()] == [2, 1, 2]


def test_ten_prompts_a_side_do_not_pass_without_a_word(here, capsys):  # noqa: F811
    rows = [json.dumps({"positive": f"List {n}", "negative": f"Tell {n}"}) for n in range(10)]
    (here / "ten.jsonl").write_text("\n".join(rows))
    with pytest.raises(SystemExit):
        main(["behaviours", "ten.jsonl"])
    assert "4 prompts a side to discover with is few" in flat(capsys.readouterr().out)
