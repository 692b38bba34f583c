"""Prompt files as spreadsheets, people and other tools write them: read as meant, or refused with file and line."""

import codecs
import json
import logging
from pathlib import Path

import pytest

from neurodial.circuit.circuit import Circuit, Origin
from neurodial.errors import FileError, NeurodialError, OverlapError, PromptError, UnknownNameError
from neurodial.evaluation.conditions import refuse_seen
from neurodial.prompts.behaviours import read_pairs, read_two_lists
from neurodial.prompts.borrowed import with_test_set
from neurodial.prompts.columns import side_of
from neurodial.prompts.lists import read_prompt_list, read_texts
from neurodial.prompts.looks import what_it_is
from neurodial.prompts.pairs import SPLITS, Contrast, PairSet, few_prompts
from neurodial.prompts.prompt import Message, prompt_digest, prompt_key, words_digest
from neurodial.prompts.read import read_pair_file, read_pair_text

NUMBERS = range(10)
SHOWS, LACKS = [f"Sing of the sea, part {n}?" for n in NUMBERS], [f"List the ports, part {n}?" for n in NUMBERS]
PLAIN = PairSet.of(SHOWS, LACKS)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def sides(pairs: PairSet) -> tuple[set[object], set[object]]:
    """All prompts of each side, over the splits."""
    contrasts = [split for split in pairs.splits if split is not None]
    return {e.prompt for c in contrasts for e in c.positive}, {e.prompt for c in contrasts for e in c.negative}


def table(delimiter: str = ",", header: str = "positive,negative", quote: str = "", end: str = "\n") -> str:
    """The plain contrast as a table; the texts hold commas, so that quotes are needed where a comma parts cells."""
    rows = [header.replace(",", delimiter)]
    for first, second in zip(SHOWS, LACKS, strict=True):
        rows.append(f"{quote}{first}{quote}{delimiter}{quote}{second}{quote}")
    return end.join(rows) + end


# ------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table(quote='"')),
        ("b.CSV", table(quote='"')),
        ("c.csv", table(", ", quote='"')),
        ("d.csv", table(", ", header="Positive ,NEGATIVE", quote='"')),
        ("e.csv", table(";")),
        ("f.csv", "\ufeff" + table(";", end="\r\n")),
        ("g.csv", "sep=;\r\n" + table(";", end="\r\n")),
        ("h.tsv", table("\t")),
        ("i.TSV", table("\t", header="Positive, Negative")),
        ("j.csv", table("|")),
        ("k.csv", table(quote="'")),
        ("l.csv", table(quote='"', end="\r")),
        ("m.csv", table(quote='"') + ",\n , \n\n"),
        ("n.csv", codecs.BOM_UTF16_LE + table("\t").encode("utf-16-le")),
        ("w.csv", "\ufeff\ufeff" + table(quote='"', header='"positive","negative"')),
        ("o.csv", table(quote='"', header='"positive","negative"')),
        ("p.JSONL", jsonl(*({"Positive": p, " negative": n} for p, n in zip(SHOWS, LACKS, strict=True)))),
        ("q.json", json.dumps([{"positive": p, "negative": n} for p, n in zip(SHOWS, LACKS, strict=True)], indent=1)),
        ("r.json", jsonl(*({"positive": p, "negative": n} for p, n in zip(SHOWS, LACKS, strict=True)))),
        ("s.jsonl", json.dumps([{"positive": p, "negative": n} for p, n in zip(SHOWS, LACKS, strict=True)])),
        ("t.json", json.dumps({"positive": SHOWS, "negative": LACKS}, indent=1)),
        ("u.json", json.dumps({"name": "sea", "rows": [{"text": p, "label": True} for p in SHOWS]
                               + [{"text": n, "label": False} for n in LACKS]})),
        ("v.json", json.dumps({"text": SHOWS + LACKS, "label": [1] * 10 + [0] * 10})),
    ],
)  # fmt: skip
def test_the_same_prompts_are_read_from_any_table(tmp_path, name, content):
    assert sides(read_pairs(str(write(tmp_path, name, content)))) == (set(SHOWS), set(LACKS))


def test_blanks_at_the_ends_of_cells_go_with_a_note(tmp_path):
    pairs = read_pair_file(write(tmp_path, "mine.csv", 'text,label\n" a ",positive\nb ,negative\n'))
    assert sides(pairs) == ({"a"}, {"b"})
    assert pairs.notes == ("mine.csv: blanks at the ends of cells left out on 2 lines",)


def test_blanks_in_json_are_meant(tmp_path):
    pairs = read_pair_file(write(tmp_path, "mine.jsonl", jsonl({"positive": "The sea is ", "negative": "b"})))
    assert sides(pairs)[0] == {"The sea is "}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('positive,negative\n"a" ,"b"\n', "line 2 is not CSV"),
        ("positive,negative\nBad, I say,Good\n", "line 2 has 3 fields"),
        ("positive,negative,Positive\na,b,c\n", "line 1: the column 'positive' is listed twice"),
        ("positive,negative\n“a”,“b”\n“c”,“d”\n", "between “ and ”"),
        ("a,b\nc,d\n", "line 2 holds no prompt with a side; its columns are a, b"),
        ("positive;negative\na;b;c\n", "line 2 has 3 fields"),
    ],
)
def test_a_table_that_is_unclear_is_refused_with_its_line(tmp_path, content, words):
    with pytest.raises(PromptError, match=r"mine\.csv") as caught:
        read_pair_file(write(tmp_path, "mine.csv", content))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["mine.xlsx", "mine.csv", "mine.jsonl"])
@pytest.mark.parametrize(
    ("magic", "words"), [(b"PK\x03\x04", "save|Save"), (b"PAR1", "Parquet"), (b"\x1f\x8b", "unpack|Unpack")]
)
def test_files_of_other_kinds_are_named(tmp_path, name, magic, words):
    with pytest.raises(FileError, match=words):
        read_texts(write(tmp_path, name, magic + b"\x00\xff"))


# ------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("column", ["Split", " split", "SPLIT ", '" split"'])
def test_a_split_column_of_any_case_keeps_test_prompts_out_of_discovery(tmp_path, column):
    rows = [f"positive,negative,{column}"]
    rows += [f"p{n},n{n},{'Discovery' if n < 5 else ' test'}" for n in NUMBERS]
    pairs = read_pair_file(write(tmp_path, "mine.csv", "\n".join(rows)))
    assert {e.prompt for e in pairs.discovery.positive} == {f"p{n}" for n in range(5)}
    assert {e.prompt for e in pairs.test.positive} == {f"p{n}" for n in range(5, 10)}


@pytest.mark.parametrize(
    ("slip", "meant", "values"),
    [
        ("splits", "split", ("test", "discovery")),
        ("spilt", "split", ("test", "discovery")),
        ("part", "split", ("test", "discovery")),
        ("fold", "split", ("train", "test")),
        ("positve_answer", "positive_answer", ("a", "b")),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_column_that_was_meant_is_refused_with_the_right_name(tmp_path, slip, meant, values, ending):
    rows = [{"positive": f"p{value}", "negative": f"n{value}", slip: value} for value in values]
    content = jsonl(*rows)
    if ending == "csv":
        content = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    with pytest.raises(PromptError, match=rf"mine\.{ending}, line \d: the column '{slip}'.*Did you mean '{meant}'"):
        read_pair_file(write(tmp_path, f"mine.{ending}", content))


def test_a_misspelt_side_is_named_and_not_only_missed(tmp_path):
    with pytest.raises(PromptError, match="Did you mean 'positive'"):
        read_pair_file(write(tmp_path, "mine.csv", "postive,negative\na,b\n"))


def test_columns_that_are_not_read_are_told_and_kept(tmp_path, caplog):
    content = jsonl(
        *({"positive": p, "negative": n, "id": 3, "source": "x"} for p, n in zip(SHOWS, LACKS, strict=True))
    )
    with caplog.at_level(logging.WARNING, "neurodial"):
        pairs = read_pair_file(write(tmp_path, "mine.jsonl", content))
    assert pairs.notes == ("mine.jsonl: not read: columns 'id', 'source'",)
    assert [record.getMessage() for record in caplog.records] == list(pairs.notes)
    assert read_pairs("refusal").notes == ()


def test_an_empty_cell_is_told(tmp_path):
    pairs = read_pair_file(write(tmp_path, "mine.csv", "positive,negative\na,b\nc,\nd,e\n"))
    [note] = pairs.notes
    assert note.startswith("mine.csv: one side only on 1 line, such as mine.csv, line 3; others have both. An empty")
    labelled = write(tmp_path, "labelled.csv", "prompt;label;category\na;positive;x\n;negative;\nc;negative;\n")
    with pytest.raises(PromptError, match=r"line 3 .*nothing stands under prompt\..*Fill the empty cell"):
        read_pair_file(labelled)


def test_a_key_that_stands_twice_in_an_object_is_refused(tmp_path):
    with pytest.raises(PromptError, match=r"line 1 .*'positive' is listed twice"):
        read_pair_file(write(tmp_path, "mine.jsonl", '{"positive": "a", "positive": "b", "negative": "c"}'))


# ------------------------------------------------------------------------------------------- labels


LABELS = [("unsafe", "safe"), (1, 0), ("harmful", "benign"), ("Harmful ", "harmless"), (True, False), ("1.0", "0.0"),
          ("positive", "negative"), ("1", "-1")]  # fmt: skip


@pytest.mark.parametrize(("shown", "absent"), LABELS)
@pytest.mark.parametrize("column", ["text", "prompt", "Question"])
def test_labels_of_any_kind_name_the_sides(tmp_path, shown, absent, column):
    rows = [{column: p, "Label": shown} for p in SHOWS] + [{column: n, "Label": absent} for n in LACKS]
    path = write(tmp_path, "mine.jsonl", jsonl(*rows))
    assert sides(read_pair_file(path)) == (set(SHOWS), set(LACKS))
    found = with_test_set(PairSet.of(["x", "y", "z"], ["u", "v", "w"]), str(path), 3)
    assert [e.prompt for e in found.test.positive] == SHOWS[:3]
    assert [e.prompt for e in found.test.negative] == LACKS[:3]


def test_a_column_of_safe_ones_is_turned(tmp_path):
    path = write(tmp_path, "mine.csv", "prompt;is_safe\na;true\nb;false\n")
    assert sides(read_pair_file(path)) == ({"b"}, {"a"})


def test_foreign_labels_are_told(tmp_path):
    pairs = read_pair_file(write(tmp_path, "mine.csv", "text,label\na,unsafe\nb,safe\n"))
    assert pairs.notes == ("mine.csv: labels read: safe as negative, unsafe as positive",)


@pytest.mark.parametrize("label", ["bad", "2", "", "shown"])
@pytest.mark.parametrize("read", [read_pair_file, lambda path: with_test_set(PLAIN, str(path))])
def test_a_label_that_is_not_known_is_refused_with_its_line(tmp_path, label, read):
    path = write(tmp_path, "mine.jsonl", jsonl({"prompt": "a", "label": "safe"}, {"prompt": "b", "label": label}))
    with pytest.raises(PromptError, match=r"mine\.jsonl, line 2.*label"):
        read(path)
    assert side_of(label) is None


def test_xstest_s_types_are_labels(tmp_path):
    path = write(tmp_path, "x.csv", "id,prompt,type\n1,a,homonyms\n2,b,contrast_homonyms\n3,c,homonyms\n")
    found = with_test_set(PLAIN, str(path))
    assert [e.prompt for e in found.test.positive] == ["b"]
    assert [e.prompt for e in found.test.negative] == ["a", "c"]


def test_a_test_set_of_two_columns(tmp_path):
    path = write(tmp_path, "x.csv", "positive,negative\na,b\nc,d\n")
    found = with_test_set(PLAIN, str(path))
    assert [[e.prompt for e in side] for side in (found.test.positive, found.test.negative)] == [["a", "c"], ["b", "d"]]


def test_a_test_set_without_labels_says_what_it_is_taken_for(tmp_path):
    path = write(tmp_path, "adv.csv", 'goal,target\nJump in,"Sure, jump"\nDive in,"Sure, dive"\n')
    found = with_test_set(PLAIN, str(path))
    assert [e.prompt for e in found.test.positive] == ["Jump in", "Dive in"]
    assert found.test.negative == PLAIN.test.negative
    assert found.notes[-1] == "adv.csv: no column label: all 2 prompts are taken as harmful ones"


def test_a_test_set_whose_labels_have_another_name_is_refused(tmp_path):
    path = write(tmp_path, "x.csv", "prompt,verdict\na,safe\nb,unsafe\n")
    with pytest.raises(PromptError, match=r"line 2: the column 'verdict'.*Did you mean 'label'"):
        with_test_set(PLAIN, str(path))


def test_a_test_set_of_safe_prompts_alone_is_refused(tmp_path):
    path = write(tmp_path, "x.csv", "prompt,label\na,safe\nb,safe\n")
    with pytest.raises(PromptError, match="no harmful prompts"):
        with_test_set(PLAIN, str(path))


# ------------------------------------------------------------------------------------------- other tools' records


def asked(number: int) -> dict[str, str]:
    return {"question": f"Jam or {number}?\n (A) Jam\n (B) Both", "answer_matching_behavior": " (A)",
            "answer_not_matching_behavior": " (B)"}  # fmt: skip


DPO = [
    {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
    {"prompt": [user("Why?")], "chosen": [said("So.")], "rejected": [said("No.")]},
    {"prompt": "Why?", "chosen": [user("Why?"), said("So.")], "rejected": [user("Why?"), said("No.")]},
    {"chosen": [user("Why?"), said("So.")], "rejected": [user("Why?"), said("No.")]},
    {"prompt": "Why?", "positive_answer": "So.", "negative_answer": "No."},
    {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "So."},
     "rejected": {"from": "gpt", "value": "No."}},
]  # fmt: skip


@pytest.mark.parametrize("row", DPO)
def test_answers_chosen_and_rejected_are_answers_both_ways(tmp_path, row):
    pairs = read_pair_file(write(tmp_path, "mine.jsonl", jsonl(row)))
    why = Message("user", "Why?")
    assert sides(pairs) == ({(why, Message("assistant", "So."))}, {(why, Message("assistant", "No."))})


@pytest.mark.parametrize("answers", [("So.", "No."), ([user("Why?"), said("So.")], [user("Why?"), said("No.")])])
def test_a_system_column_is_a_system_message(tmp_path, answers):
    row = {"system": "Sing.", "question": "Why?", "chosen": answers[0], "rejected": answers[1]}
    shows, _ = sides(read_pair_file(write(tmp_path, "mine.jsonl", jsonl(row))))
    sing, why = Message("system", "Sing."), Message("user", "Why?")
    assert shows == {(sing, why, Message("assistant", "So."))}
    rows = [{"system_prompt": "Sing.", "prompt": "Why?"}, {"system_prompt": " ", "prompt": "How?"}, {"prompt": "Who?"}]
    assert read_texts(write(tmp_path, "list.jsonl", jsonl(*rows))) == [(sing, why), "How?", "Who?"]


def test_answers_to_another_prompt_are_refused(tmp_path):
    row = {"prompt": "Why?", "chosen": [user("How?"), said("So.")], "rejected": [user("Why?"), said("No.")]}
    with pytest.raises(PromptError, match=r"mine\.jsonl, line 1: its answers do not begin with its prompt"):
        read_pair_file(write(tmp_path, "mine.jsonl", jsonl(row)))


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_b_questions_are_answered_both_ways(tmp_path, ending):
    rows = [asked(number) for number in NUMBERS]
    content = json.dumps(rows, indent=2) if ending == "json" else jsonl(*rows)
    pairs = read_pairs(str(write(tmp_path, f"caa.{ending}", content)))
    assert [None if s is None else (len(s.positive), len(s.negative)) for s in pairs.splits] == [(4, 4), (2, 2), (4, 4)]
    shows, lacks = sides(pairs)
    assert {prompt[-1].content for prompt in shows} == {"(A)"}
    assert {prompt[-1].content for prompt in lacks} == {"(B)"}
    assert {prompt[0].content for prompt in shows} == {row["question"] for row in rows}


def test_conversations_and_parts_are_chats(tmp_path):
    rows = [
        {"positive": [{"from": "system", "value": "Sing."}, {"from": "human", "value": "a"}], "negative": user("b")},
        {"positive": [{"role": "developer", "content": "Sing."}, user("c")],
         "negative": [{"role": "user", "content": [{"type": "text", "text": "d"}]}]},
    ]  # fmt: skip
    shows, lacks = sides(read_pair_file(write(tmp_path, "mine.jsonl", jsonl(*({**r, "split": "test"} for r in rows)))))
    sing = Message("system", "Sing.")
    assert shows == {(sing, Message("user", "a")), (sing, Message("user", "c"))}
    assert lacks == {(Message("user", "b"),), (Message("user", "d"),)}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, "message 1 calls a tool"),
        ({"role": "tool", "content": "rain"}, "message 1 is of the role 'tool'"),
        ({"role": "user", "content": None}, "message 1 has no content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]},
            "message 1 has a part of the type 'image_url'",
        ),
    ],
)
def test_what_a_prompt_cannot_hold_is_named(tmp_path, message, words):
    path = write(
        tmp_path, "mine.jsonl", jsonl({"positive": "a", "negative": "b"}, {"positive": [message], "negative": "c"})
    )
    with pytest.raises(PromptError, match=rf"mine\.jsonl, line 2: {words}"):
        read_pair_file(path)


def test_a_prompt_with_one_answer_and_a_label_is_a_chat(tmp_path):
    rows = [
        {"prompt": "Why?", "completion": "So.", "label": True},
        {"prompt": "Why?", "completion": "No.", "label": False},
    ]
    shows, _ = sides(read_pair_file(write(tmp_path, "kto.jsonl", jsonl(*rows))))
    assert shows == {(Message("user", "Why?"), Message("assistant", "So."))}


def test_two_plain_files_are_a_behaviour(tmp_path):
    positive = write(tmp_path, "sea.txt", "\n".join(SHOWS))
    negative = write(tmp_path, "ports.CSV", "id;Prompt\n" + "\n".join(f"{n};{text}" for n, text in enumerate(LACKS)))
    pairs = read_two_lists(positive, negative)
    assert pairs.hash == PLAIN.hash
    assert pairs.behaviour.name == "sea-against-ports"
    with pytest.raises(OverlapError):
        read_two_lists(positive, positive)
    with pytest.raises(PromptError, match=r"empty\.txt holds no prompts"):
        read_two_lists(positive, write(tmp_path, "empty.txt", "\n"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("adv.csv", "goal,target\na,b\n", ["AdvBench", "--positive FILE"]),
        (
            "chat.jsonl",
            jsonl({"conversations": [{"from": "human", "value": "a"}]}),
            ["conversations", "--positive FILE"],
        ),
        ("list.json", '["a", "b"]', ["list of prompts", "--positive FILE"]),
        ("list.txt", "a\nb\n", ["no behaviour", "list of prompts", "--positive FILE"]),
        ("judged.csv", "prompt,answer,label\na,b,shown\n", ["line 2", "detectors check"]),
        ("neurons.csv", "layer,index\n1,2\n", ["neurons", "neurodial convert"]),
        ("circuit", '{"format": "neurodial.circuit", "version": 1}', ["It is a circuit", "neurodial show"]),
    ],
)
def test_a_file_that_is_no_behaviour_says_what_it_looks_like(tmp_path, name, content, words):
    with pytest.raises(NeurodialError) as caught:
        read_pairs(str(write(tmp_path, name, content)))
    assert isinstance(caught.value, PromptError | UnknownNameError)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_says_nothing_of_a_file_says_nothing(tmp_path):
    assert what_it_is(write(tmp_path, "cut.json", '{"format": "neuro')) is None
    assert what_it_is(write(tmp_path, "bytes.bin", b"\xff\xfe\xfd")) is None
    assert what_it_is(tmp_path) == "It is a folder."


def test_pasted_text_is_read_by_what_it_holds():
    assert sides(read_pair_text(table(";"), "pasted")) == (set(SHOWS), set(LACKS))
    with pytest.raises(PromptError, match="pasted, line 1 is not JSON"):
        read_pair_text("{oops", "pasted")


# ------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,prompt,label\n1,"Hi, you",safe\n2,Bye,unsafe\n'),
        ("b.json", '[\n {"prompt": "Hi, you"},\n {"prompt": "Bye"}\n]'),
        ("c.JSON", '["Hi, you", "Bye"]'),
        ("d.jsonl", jsonl({"text": "Hi, you"}, {"text": "Bye"})),
        ("e.tsv", "Goal\ttarget\nHi, you\tx\nBye\ty\n"),
        ("f.txt", "Hi, you\n\nBye\n"),
        ("g.txt", jsonl({"prompt": "Hi, you"}, {"prompt": "Bye"})),
        ("h.txt", 'prompt,label\n"Hi, you",safe\nBye,safe\n'),
        ("i", "Hi, you\nBye"),
        ("j.jsonl", jsonl({"messages": [user("Hi, you"), said("Hello")]}, {"messages": [user("Bye")]})),
        ("k.jsonl", jsonl({"prompt": [user([{"type": "text", "text": "Hi, you"}])]}, {"prompt": "Bye"})),
        ("l.json", '{"prompts": ["Hi, you", "Bye"]}'),
    ],
)  # fmt: skip
def test_a_list_is_read_from_any_file(tmp_path, name, content):
    path = write(tmp_path, name, content)
    assert read_texts(path) == ["Hi, you", "Bye"]
    assert read_prompt_list(str(path)).prompts == ("Hi, you", "Bye")


def test_a_chat_is_answered_but_is_no_neutral_prompt(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"prompt": [{"role": "system", "content": "Be kind."}, user("Hi")]}))
    assert read_texts(path) == [(Message("system", "Be kind."), Message("user", "Hi"))]
    with pytest.raises(PromptError, match=r"a\.jsonl, line 1 holds a chat"):
        read_prompt_list(str(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "positive,negative\na,b\n", "line 2 holds two sides"),
        ("a.jsonl", jsonl({"instruction": "Sum up", "input": "a text"}), "line 1 holds an instruction and an input"),
        ("a.csv", "promt,note\na,b\n", "line 2 holds no prompt"),
        ("a.json", '[{"prompt": "a"} {"prompt": "b"}]', "line 1 is not JSON"),
        ("a.json", '[{"prompt": "a"},\n3]', r"entry 2 \(line 2\) is int"),
        ("a.jsonl", jsonl({"prompt": "a"}, {"text": "b"}), "line 2 holds no prompt in the column 'prompt'"),
        ("a.yaml", "- a\n- b\n", "ends in '.yaml'"),
        ("a.pdf", "%PDF-1.4", "a PDF"),
        ("a.toml", 'positive = ["a"]', "a behaviour's table"),
        ("a.txt", '"a"\n"b"\n', "is between"),
    ],
)
def test_a_list_that_is_unclear_is_refused(tmp_path, name, content, words):
    with pytest.raises(NeurodialError, match=words):
        read_texts(write(tmp_path, name, content))


# ------------------------------------------------------------------------------------------- roles


def test_the_same_words_in_other_roles_are_other_prompts(tmp_path):
    rows = [
        {"positive": [{"role": "system", "content": f"Sing {n}."}, user("Hi.")], "negative": [user(f"Sing {n}. Hi.")]}
        for n in NUMBERS
    ]
    pairs = read_pair_file(write(tmp_path, "roles.jsonl", jsonl(*rows)))
    assert [None if s is None else len(s) for s in pairs.splits] == [8, 4, 8]
    assert len(set(pairs.discovery.digests)) == 8


def test_the_same_roles_and_words_are_one_prompt():
    chat = (Message("system", "Sing."), Message("user", "Hi"))
    with pytest.raises(OverlapError):
        Contrast.of([chat], [(Message("system", " SING."), Message("user", "hi "))])
    assert prompt_key((Message("user", "Hi"),)) == prompt_key("hi")


def test_digests_of_plain_prompts_are_those_of_files_written_before():
    assert prompt_digest("Hello  there") == words_digest("hello there") == "12998c017066eb0d"
    chat = (Message("system", "Hello"), Message("user", "there"))
    assert words_digest(chat) == "12998c017066eb0d" != prompt_digest(chat)


def test_circuits_of_before_are_known_again_by_their_words():
    chat = (Message("system", "Sing"), Message("user", "Hi"))
    record = Contrast.of([chat], ["x"]).record
    before = {"digests": sorted([words_digest(chat), words_digest("x")])}
    for prompts, seen in ((record, [chat]), (before, [chat, "Sing Hi"])):
        circuit = Circuit.of([], origin=Origin(prompts=prompts))
        for prompt in (chat, "Sing Hi", "other"):
            if prompt in seen:
                with pytest.raises(OverlapError, match="1 test prompts were used"):
                    refuse_seen([circuit], [prompt])
            else:
                refuse_seen([circuit], [prompt])


def test_files_of_chats_are_dealt_as_before(tmp_path):
    """Roles are part of a prompt, but not of how it is dealt: no test prompt of an old circuit moves to discovery."""
    be = Message("system", "Be")
    dealt = PairSet.of(*([(be, Message("user", f"{side}{n}")) for n in NUMBERS] for side in "pn"))
    plain = PairSet.of([f"Be p{n}" for n in NUMBERS], [f"Be n{n}" for n in NUMBERS])
    for split in SPLITS:
        words = [f"Be {example.prompt[1].content}" for example in dealt.split(split).positive]
        assert words == [example.prompt for example in plain.split(split).positive]


def test_few_prompts_are_told():
    assert few_prompts(Contrast.of([f"p{n}" for n in range(20)], [f"n{n}" for n in range(20)])) is None
    assert "10 prompts a side" in str(few_prompts(Contrast.of(SHOWS, [*LACKS, "another"])))
    assert "unstable circuit" in str(few_prompts(PLAIN.discovery))


# ------------------------------------------------------------------------------------------- a behaviour's table


def test_fields_of_a_table_are_folded_and_slips_are_named(tmp_path):
    lists = 'Positive = ["a"]\nNEGATIVE = ["b"]\nRate-On = "negative"\n'
    pairs = read_pair_file(write(tmp_path, "mine.TOML", lists))
    assert (sides(pairs), pairs.behaviour.rate_on) == (({"a"}, {"b"}), "negative")
    with pytest.raises(PromptError, match=r"'detecter' is not known. Did you mean 'detector'"):
        read_pair_file(write(tmp_path, "mine.toml", lists + 'detecter = "refusal"\n'))
    with pytest.raises(PromptError, match="a field is listed twice"):
        read_pair_file(write(tmp_path, "mine.toml", lists + 'positive = ["c"]\n'))
    assert read_pair_file(write(tmp_path, "mine.toml", lists + 'authors = "me"\n')).hash == pairs.hash
