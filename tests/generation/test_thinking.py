"""Answers of reasoning models: what is said is told from what is thought, in tokens."""

import dataclasses

import pytest
from tests.scripted import ids, says, speaking

import neurodial as nd
from neurodial.generation.generate import starts_inside
from neurodial.prompts.prompt import Message
from neurodial.prompts.template import Template

LONG = nd.Decoding(max_new_tokens=60)
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
OPENS = PLAIN.replace("<a>", "<a><think>")
SPLITS = PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")


def answer(subject, said, decoding=LONG, prompt="Hi"):
    with says(subject, ids(subject, said)):
        return nd.generate(subject, [prompt], decoding=decoding)[0]


@pytest.mark.parametrize(
    ("special", "template", "said"),
    [
        (["</think>"], SPLITS, "XYZ</think>Gladyo"),
        (["<think>", "</think>"], PLAIN, "<think>XYZ</think>Gladyo"),
        ([], SPLITS, "<think>XYZ</think>\n\nGladyo"),
        ([], OPENS, "XYZ</think>Gladyo"),
        (["</think>"], OPENS, "XYZ</think>Gladyo"),
        ([], PLAIN, "[THINK]XYZ[/THINK]Gladyo"),
        (["[THINK]", "[/THINK]"], PLAIN, "[THINK]XYZ[/THINK]Gladyo"),
        ([], PLAIN, "◁think▷XYZ◁/think▷Gladyo"),
        (
            ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"],
            PLAIN,
            "<|channel|>analysis<|message|>XYZ<|end|><|start|>assistant<|channel|>final<|message|>Gladyo",
        ),
    ],
)
def test_the_answer_is_what_comes_after_thinking(special, template, said):
    found = answer(speaking(special, template=template), said)
    assert (found.thinking, found.text, found.is_endless, found.is_finished) == ("XYZ", "Gladyo", False, True)
    cut = answer(
        speaking(special, template=template), said, dataclasses.replace(LONG, max_new_tokens=len(found.tokens) - 3)
    )
    assert (cut.thinking, cut.text, cut.is_endless, cut.is_finished) == ("XYZ", "Gla", False, False)


def test_thinking_that_is_cut_is_endless_and_thinking_that_ends_is_finished():
    subject = speaking(template=OPENS)
    cut = answer(subject, "XYZ and more", dataclasses.replace(LONG, max_new_tokens=3))
    assert (cut.thinking, cut.text, cut.is_endless, cut.is_finished) == ("XYZ", "", True, False)
    ended = answer(subject, "XYZ")
    assert (ended.thinking, ended.text, ended.is_endless, ended.is_finished) == ("XYZ", "", True, True)


def test_markers_of_ones_own():
    own = dataclasses.replace(speaking(template=PLAIN), template=Template(thinking_markers=("(hm)", "(so)")))
    assert answer(own, "(hm)XYZ(so)Gladyo").text == "Gladyo"
    assert answer(speaking(template=PLAIN), "(hm)XYZ(so)Gladyo").thinking is None
    assert own.setup == {"thinking_markers": ["(hm)", "(so)"]}


def test_only_the_template_opens_a_block_and_not_the_users_words():
    subject = speaking(template=SPLITS)
    assert not starts_inside(subject, "What does <think>")
    assert starts_inside(speaking(template=OPENS), "What?")
    assert starts_inside(subject, (Message("user", "A"), Message("assistant", "<think>Hm")))
    found = answer(subject, "It begins a block.", prompt="What does <think>")
    assert (found.thinking, found.text) == (None, "It begins a block.")
