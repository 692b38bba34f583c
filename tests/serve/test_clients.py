"""What OpenAI's clients and other tools send, and the words for what is refused of it."""

import dataclasses

import pytest
from tests.scripted import ids, says, speaking
from tests.serve.served import live
from tests.serve.test_http import raw
from tests.subjects import circuit_of

import neurodial as nd
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.prompts.template import Template
from neurodial.serve.engine import Engine
from neurodial.serve.failure import ApiError
from neurodial.serve.names import ModelNames
from neurodial.serve.options import EngineOptions
from neurodial.serve.prepare import Preparer
from neurodial.serve.request import Piece, Request
from neurodial.serve.schema import ChatBody

TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% if m.tool_calls %}{% for call in m.tool_calls %}<call>{{ call.function.name }}"
    "{% for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}{% endif %}"
)
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Ghent"}'}}
ASKED = [
    {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind"}]},
    {"role": "user", "content": "Rain?", "name": "Ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []},
    {"role": "tool", "content": "no", "tool_call_id": "c1"},
]


def prepared(subject, **body):
    preparer = Preparer(subject, ModelNames("tiny", {}, 8.0), max_tokens=8)
    fields = {"messages": [{"role": "user", "content": "Hi"}], **body}
    [request] = preparer.chat(ChatBody(model="tiny", **fields)).requests
    return request, str(subject.tokenizer.decode(list(request.tokens)))


def subject_of(template=TEMPLATE):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return Subject.of(tiny_model("llama"), tokenizer, label="tiny")


# ------------------------------------------------------------------------------------------- messages


def test_a_chat_with_tools_is_rendered_as_its_template_has_it():
    _, text = prepared(subject_of(), messages=ASKED)
    assert text == "<system>Be kind<user>Rain?<assistant><call>weather at=Ghent<tool>no<assistant>"


def test_tools_reach_a_template_that_names_them_and_no_other():
    tools = [{"type": "function", "function": {"name": "weather"}}]
    _, text = prepared(subject_of(), tools=tools)
    assert text.startswith('<tools>[{"type": "function"')
    assert prepared(subject_of(), tools=[])[1] == "<user>Hi<assistant>"
    with pytest.raises(ApiError, match="this server takes only \\[\\], as this model's chat template names no tools"):
        prepared(Subject.of(tiny_model("llama"), tiny_tokenizer()), tools=tools)


def test_a_template_that_leaves_tool_calls_out_refuses_them():
    with pytest.raises(ApiError, match="leaves out tool calls"):
        prepared(Subject.of(tiny_model("llama"), tiny_tokenizer()), messages=ASKED)


# ------------------------------------------------------------------------------------------- template variables


def test_template_variables_come_with_the_request_and_win():
    subject = subject_of()
    off = {"enable_thinking": False}
    assert prepared(subject)[1] == "<user>Hi<assistant>"
    assert prepared(subject, chat_template_kwargs=off)[1] == "<user>Hi<assistant><think></think>"
    quiet = dataclasses.replace(subject, template=Template(off))
    assert prepared(quiet)[1] == "<user>Hi<assistant><think></think>"
    assert prepared(quiet, chat_template_kwargs={"enable_thinking": True})[1] == "<user>Hi<assistant>"
    with pytest.raises(ApiError, match="no variable 'enable_thinkin'"):
        prepared(subject, chat_template_kwargs={"enable_thinkin": False})
    with pytest.raises(ApiError, match="'messages' can't be set"):
        prepared(subject, chat_template_kwargs={"messages": []})


@pytest.mark.parametrize(
    ("effort", "ending"), [("none", "<think></think>"), ("minimal", "<think></think>"), ("low", "")]
)
def test_reasoning_effort_turns_thinking_off_where_that_is_all_there_is(effort, ending):
    assert prepared(subject_of(), reasoning_effort=effort)[1] == f"<user>Hi<assistant>{ending}"


def test_reasoning_effort_is_the_templates_own_where_it_has_one():
    own = subject_of("{% for m in messages %}{{ m.content }}{% endfor %}<{{ reasoning_effort or 'medium' }}>")
    assert prepared(own)[1] == "Hi<medium>"
    assert prepared(own, reasoning_effort="high")[1] == "Hi<high>"
    with pytest.raises(ApiError, match="reasoning_effort: this model's chat template has no such variable"):
        prepared(Subject.of(tiny_model("llama"), tiny_tokenizer()), reasoning_effort="low")


# ------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def server():
    with live(subject_of()) as running:
        yield running


def ask(server, **body):
    return raw(server, body={"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **body})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content: it is null. Wanted: a text"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: it is null. Wanted: a text"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content: it is 7. Wanted: a text, or a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type: it is 'image_url'. Wanted: 'text': this server reads text alone",
        ),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: it is 'robot'. Wanted: 'system'"),
        ({"messages": [{"role": "user", "content": "x", "refusal": "no"}]}, "messages.0.refusal: "),
        ({"messages": [{"role": "user", "content": "x", "audio": {}}]}, "messages.0.audio: "),
        ({"messages": [{"role": "user", "content": "x", "contents": "y"}]}, "messages.0.contents: this server knows"),
        ({"messages": "Hi"}, "messages: it is 'Hi'. Wanted: a list"),
        ({"temperature": "warm"}, "temperature: it is 'warm'. Wanted: a number"),
        ({"temperature": -1}, "temperature: it is -1. Wanted: at least 0"),
        ({"top_k": 1.5}, "top_k: it is 1.5. Wanted: a whole number"),
        ({"min_p": 2}, "min_p: it is 2. Wanted: at most 1"),
        ({"stop": 3}, "stop: it is 3. Wanted: a text or a list of up to 16"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs: it is an empty list. Wanted: an object"),
        ({"repetition_penalty": 1.2}, "repetition_penalty: this server takes only 1"),
        ({"tempreature": 1}, "tempreature: this server knows no such field"),
    ],
)
def test_words_name_the_field_and_what_is_wanted(server, body, words):
    status, answer, _ = ask(server, **body)
    message = answer["error"]["message"]
    assert status == 400
    assert message.startswith(words), message
    for jargon in ("constrained", "Input should", "union", "str]", "valid "):
        assert jargon not in message


def test_neutral_values_of_other_tools_are_taken(server):
    plain = ask(server, temperature=0)[1]["choices"]
    assert (
        ask(server, temperature=0, top_k=-1, min_p=0, repetition_penalty=1.0, tool_choice="none")[1]["choices"] == plain
    )


def test_top_k_and_min_p_change_what_is_drawn(server):
    greedy = ask(server, temperature=0)[1]["choices"][0]["message"]
    hot = {"temperature": 8, "seed": 5}
    drawn = ask(server, **hot)[1]["choices"][0]["message"]
    assert drawn != greedy
    assert ask(server, **hot, top_k=1)[1]["choices"][0]["message"] == greedy
    assert ask(server, **hot, min_p=1)[1]["choices"][0]["message"] == greedy
    assert ask(server, **hot, top_k=200)[1]["choices"][0]["message"] != greedy


def test_markers_of_thinking_stay_in_the_text_though_they_are_special_tokens():
    subject = speaking(["</think>", "<|end|>"])
    with says(subject, ids(subject, "hm</think>Yes<|end|>")), live(subject, {}) as server:
        assert ask(server, max_tokens=20)[1]["choices"][0]["message"]["content"] == "hm</think>Yes"


def test_a_text_that_ends_answers_in_the_checkpoint_ends_them_here():
    subject = speaking()
    subject.model.generation_config.stop_strings = ["STOP"]
    with says(subject, ids(subject, "abSTOPcd")), live(subject, {}) as server:
        choice = ask(server, max_tokens=20)[1]["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("ab", "stop")


@pytest.mark.parametrize("when", ["thinking", "answer", "generated"])
def test_the_server_keeps_steering_to_a_part(when):
    """Requests that share a batch get what `generate` gives each alone."""
    base = subject_of()
    subject = Subject.of(base.model, base.tokenizer, label="tiny", template=Template(thinking_markers=("e", "a")))
    circuits = {"polite": circuit_of(subject, 12)}
    texts = ["one", "another", "the third of them"]
    decoding = nd.Decoding(max_new_tokens=24)
    wanted = [
        nd.generate(subject, [text], under=nd.Scale(circuits["polite"], 3.0, when=when), decoding=decoding)[0]
        for text in texts
    ]
    asked = [Request(tokens=tokens, dials=(3.0,), max_tokens=24, top=0) for tokens in subject.render(texts)]
    with Engine(subject, circuits, EngineOptions(when=when)) as engine:
        events = engine.complete(asked)
    got = [[s.token for e in found if isinstance(e, Piece) for s in e.scored] for found in events]
    ends = {257}
    assert [[t for t in tokens if t not in ends] for tokens in got] == [list(answer.tokens) for answer in wanted]
