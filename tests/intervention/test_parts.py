"""Steering that is kept to thinking, to the answer or to tool calls.

The oracle scales neurons by hand at the places where the part, told from the whole text, is the one asked for.
"""

import dataclasses

import pytest
import torch
from tests.scripted import ids, speaking
from tests.subjects import batch_logits, circuit_of, close, differ, logits, pad

import neurodial as nd
from neurodial.errors import SteeringError
from neurodial.intervention.parts_of_pass import tracker
from neurodial.intervention.steer import steer_each
from neurodial.intervention.when import PHASES
from neurodial.model.subject import Subject
from neurodial.prompts.template import Template

SPECIAL = ("<think>", "</think>", "<tool_call>", "</tool_call>")
PARTS = ("thinking", "answer", "tools")
TURNS = {"<think>": "thinking", "</think>": "answer", "<tool_call>": "tools", "</tool_call>": "answer"}
PROMPT = "Why?"
SAID = ("<think>hm, so</think>Yes<tool_call>f(1)</tool_call>Done", "<think>a</think>b", "No thought", "<think>endless")


def subject_of() -> Subject:
    return speaking(SPECIAL)


def places(subject, said):
    """The part of each token of a prompt and an answer, from the text before it."""
    found = ["prompt"] * (1 + len(PROMPT))
    part = "answer"
    for token in ids(subject, said):
        text = subject.tokenizer.decode([token])
        part = {"<think>": "thinking", "</think>": "answer", "<tool_call>": "tools", "</tool_call>": "answer"}.get(
            text, part
        )
        found.append(part)
    return found


def row_of(subject, said):
    return [256, *ids(subject, PROMPT), *ids(subject, said)]


def by_hand(subject, row, steered):
    """Logits with the circuit's neurons scaled where `steered` holds."""
    handles = []
    for site, rows in circuit_of(subject).sites.items():
        keep = torch.ones(len(row), subject.widths[site.layer])
        keep[torch.tensor(steered)[:, None], torch.tensor([r.neuron.index for r in rows])] = 0
        handles.append(subject.down(site).register_forward_pre_hook(lambda m, args, k=keep: (args[0] * k,)))
    try:
        return logits(subject, row)
    finally:
        for handle in handles:
            handle.remove()


def boundary(row):
    return 1 + len(PROMPT)


@pytest.mark.parametrize("when", PARTS)
def test_each_part_against_neurons_scaled_by_hand(when):
    subject = subject_of()
    for said in SAID:
        row = row_of(subject, said)
        steered = [place for place, part in enumerate(places(subject, said)) if part == when]
        expected = by_hand(subject, row, steered) if steered else logits(subject, row)
        with nd.steer(subject, nd.Scale(circuit_of(subject), when=when)) as steering:
            steering.mark_prompts([boundary(row)])
            close(logits(subject, row), expected)
            steering.mark_prompts(None)
            close(one_by_one(subject, row), expected)
        if steered:
            differ(expected, logits(subject, row))


@torch.no_grad()
def one_by_one(subject, row):
    step = subject.model(torch.tensor([row[: boundary(row)]]), use_cache=True)
    parts = [step.logits[0]]
    for token in row[boundary(row) :]:
        step = subject.model(torch.tensor([[token]]), past_key_values=step.past_key_values, use_cache=True)
        parts.append(step.logits[0])
    return torch.cat(parts)


@pytest.mark.parametrize("when", PARTS)
def test_rows_of_a_batch_are_each_in_their_own_part(when):
    subject = subject_of()
    rows = [row_of(subject, said) for said in SAID]
    _, mask = pad(rows, "left")
    starts = [boundary(row) + int((own == 0).sum()) for row, own in zip(rows, mask, strict=True)]
    each = [nd.Scale(circuit_of(subject), dial, when=when) for dial in (1.0, 2.0, -1.0, 0.5)]
    with steer_each(subject, each) as steering:
        steering.mark_prompts(starts)
        together = batch_logits(subject, rows, "left")
    for row, intervention, found in zip(rows, each, together, strict=True):
        with nd.steer(subject, intervention) as steering:
            steering.mark_prompts([boundary(row)])
            close(found, logits(subject, row))


def test_the_parts_together_are_all_that_is_generated():
    subject = subject_of()
    row = row_of(subject, SAID[0])
    found = []
    for parts in (PARTS, ("generated",)):
        interventions = [nd.Scale(circuit_of(subject), when=part) for part in parts]
        with nd.steer(subject, *interventions) as steering:
            steering.mark_prompts([boundary(row)])
            found.append(logits(subject, row))
    close(*found)
    assert [sum(column) for column in zip(*(PHASES[part] for part in PARTS), strict=True)] == [0, 1, 1, 1]


@pytest.mark.parametrize("when", ["thinking", "answer"])
def test_generated_answers_in_a_batch_are_those_one_by_one(when):
    subject = dataclasses.replace(subject_of(), template=Template(thinking_markers=("e", "a")))  # letters it says
    texts = ["one", "another", "a third one", "x"]
    for decoding in (nd.Decoding(max_new_tokens=24, temperature=0.0),):
        under = [nd.Scale(circuit_of(subject), dial, when=when) for dial in (3.0, -3.0, 0.0, 2.0)]
        together = nd.generate(subject, texts, under=under, decoding=decoding)
        alone = [
            nd.generate(subject, [text], under=one, decoding=decoding)[0]
            for text, one in zip(texts, under, strict=True)
        ]
        assert together == alone


def test_a_template_that_opens_the_block_puts_the_answer_inside():
    opens = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    subject = speaking(SPECIAL, template=opens)
    [prompt] = subject.render([PROMPT])
    row = [*prompt, *ids(subject, "hm</think>Yes")]
    steered = [len(prompt), len(prompt) + 1]
    with nd.steer(subject, nd.Scale(circuit_of(subject), when="thinking")) as steering:
        steering.mark_prompts([len(prompt)])
        close(logits(subject, row), by_hand(subject, row, steered))


def test_followed_rows_come_and_go():
    subject = subject_of()
    row = row_of(subject, SAID[0])
    with nd.steer(subject, nd.Scale(circuit_of(subject), when="answer")) as steering:
        steering.follow([tracker(subject)])
        followed = one_by_one(subject, row)
        steering.follow([tracker(subject), tracker(subject)])
        with pytest.raises(SteeringError, match="1 rows came, but 2 answers are followed"):
            logits(subject, row)
        steering.follow(None)
        close(followed, one_by_one(subject, row))
        with pytest.raises(SteeringError, match="Embeddings came instead of tokens"):
            subject.model(inputs_embeds=torch.zeros(1, 3, subject.hidden_size))


def test_parts_that_nothing_marks_are_refused():
    plain = speaking()
    circuit = circuit_of(plain)
    with pytest.raises(SteeringError, match=r"Nothing marks thinking in tiny-llama.*--thinking-markers"):
        nd.Scale(circuit, when="thinking").compile(plain)
    with pytest.raises(SteeringError, match=r"Nothing marks tools in tiny-llama"):
        nd.Scale(circuit, when="tools").compile(plain)
    nd.Scale(circuit, when="answer").compile(plain)
    own = dataclasses.replace(plain, template=Template(thinking_markers=("(", ")")))
    nd.Scale(circuit, when="thinking").compile(own)
