"""Chat templates of strangers: in which form they want content, what they lose, what variables they take."""

import pytest

import neurodial as nd
from neurodial.errors import OptionError, PromptError
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.prompts.prompt import Message
from neurodial.prompts.render import appended, encode, generation_prompt, post_instruction_length, render
from neurodial.prompts.template import Template, names_variable

PARTS = {
    "parts by type": (
        "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
        "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
        "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
        "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "selectattr": (
        "{% for message in messages %}{{ message.role.upper() + ': ' }}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "first part": (
        "{% for message in messages %}[{{ message.role }}]{{ message.content[0].text }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    ),
    "raises for a text": (
        "{% for message in messages %}{% if message.content is string %}{{ raise_exception('a list, please') }}"
        "{% endif %}({{ message.role }}){{ message.content[0]['text'] }}{% endfor %}"
        "{% if add_generation_prompt %}(assistant){% endif %}"
    ),
    "system as text": (
        "{% for message in messages %}{% if message.role == 'system' %}<sys>{{ message.content + '!' }}"
        "{% else %}<{{ message.role }}>{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    ),
}
DROPS_ALL = "{% for message in messages %}<{{ message['role'] }}>{% endfor %}<assistant>"
DROPS_SYSTEM = (
    "{% for message in messages if message.role != 'system' %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% endfor %}<assistant>"
)
THINKS = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% else %}<think>{% endif %}{% endif %}"
)
CHAT = (Message("system", "Be kind"), Message("user", "Why?"))


def templated(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def subject_of(text, **fields):
    return Subject.of(tiny_model("llama"), templated(text), **fields)


# ------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("name", PARTS)
def test_a_template_that_wants_parts_gets_parts(name):
    tokenizer = templated(PARTS[name])
    first, second = (str(tokenizer.decode(tokens)) for tokens in render(tokenizer, ["Why so?", "What for?"]))
    assert "Why so?" in first
    assert "What for?" in second
    assert first.replace("Why so?", "What for?") == second
    [chat] = render(tokenizer, [(*CHAT, Message("assistant", "Because"))])
    text = str(tokenizer.decode(chat))
    assert "Be kind" in text
    assert "Why?" in text
    assert text.endswith("Because")
    assert render(tokenizer, ["Why?"], system="Be kind") == render(tokenizer, [CHAT])


def test_the_form_of_content_stands_in_the_record_and_texts_stay_texts():
    assert subject_of(PARTS["selectattr"]).setup == {"content_as_parts": True}
    plain = Subject.of(tiny_model("llama"), tiny_tokenizer())
    assert plain.setup == {}
    assert str(plain.tokenizer.decode(plain.render(["Why?"])[0])) == "<bos><user>Why?<eos><assistant>"


def test_the_circuit_of_a_model_that_wants_parts_is_of_its_prompts():
    subject = subject_of(PARTS["parts by type"])
    contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
    circuit = nd.discover(subject, contrast, method=nd.CNA(universal=None, select=nd.Count(5)))
    assert all(row.score for row in circuit)
    assert circuit.origin.model.setup == {"content_as_parts": True}


# ------------------------------------------------------------------------------------------- what is lost


def test_a_template_that_loses_the_text_is_refused_before_any_work():
    with pytest.raises(PromptError, match=r"loses what the user says: a probe text .* neither as a text nor as a list"):
        render(templated(DROPS_ALL), ["Why?"])
    subject = subject_of(DROPS_ALL)
    contrast = nd.Contrast.of(["harm 1", "harm 2"], ["help 1", "help 2"])
    for use in (
        lambda: nd.discover(subject, contrast, method=nd.CNA(universal=None)),
        lambda: nd.generate(subject, ["Why?"]),
    ):
        with pytest.raises(PromptError, match="loses what the user says"):
            use()


def test_a_system_message_that_a_template_drops_is_refused_and_the_user_alone_is_not():
    tokenizer = templated(DROPS_SYSTEM)
    assert str(tokenizer.decode(render(tokenizer, ["Why?"])[0])) == "<user>Why?<assistant>"
    with pytest.raises(PromptError, match="loses what the system says"):
        render(tokenizer, ["Why?"], system="Be kind")


def test_tool_calls_are_rendered_or_refused():
    call = '{"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"at": "Ghent"}}}]}'
    chat = (Message("user", "Rain?"), Message("assistant", "", call), Message("tool", "no"), Message("user", "And?"))
    drops = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    with pytest.raises(PromptError, match=r"leaves out tool calls, such as that of 'weather'"):
        render(templated(drops), [chat])
    shows = drops.replace(
        "{{ m.content }}", "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
    )
    [tokens] = render(templated(shows), [chat])
    text = str(tiny_tokenizer().decode(tokens))
    assert '"weather"' in text
    assert text.endswith("<tool>no<user>And?")


def test_sides_that_are_rendered_alike_are_refused():
    subject = subject_of("{% for m in messages %}<{{ m.role }}>{{ m.content[:50] }}{% endfor %}<assistant>")
    long = "x" * 60
    contrast = nd.Contrast.of([f"{long} harm {n}" for n in range(3)], [f"{long} help {n}" for n in range(3)])
    with pytest.raises(PromptError, match=r"3 of 3 positive prompts are rendered just as negative ones"):
        nd.discover(subject, contrast, method=nd.CNA(universal=None))


def test_a_position_before_the_text_is_refused():
    contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
    with pytest.raises(PromptError, match=r"Up to the token that is read .* both sides are the same"):
        nd.discover(subject_of(THINKS), contrast, method=nd.CNA(universal=None, position=nd.Index(0)))


# ------------------------------------------------------------------------------------------- options


def test_options_reach_the_template_everywhere_and_the_record():
    plain, quiet = subject_of(THINKS), subject_of(THINKS, template=Template({"enable_thinking": False}))
    assert str(plain.tokenizer.decode(plain.render(["Why?"])[0])) == "<user>Why?<assistant><think>"
    assert str(quiet.tokenizer.decode(quiet.render(["Why?"])[0])) == "<user>Why?<assistant><think></think>"
    assert quiet.post_instruction_length == post_instruction_length(quiet.tokenizer) + len("</think>")
    assert quiet.setup == {"template_options": {"enable_thinking": False}}
    assert generation_prompt(quiet.tokenizer, "Why?", quiet.template) == "<assistant><think></think>"
    contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
    method = nd.CNA(universal=None, select=nd.Count(3))
    scores = [[row.score for row in nd.discover(subject, contrast, method=method)] for subject in (plain, quiet)]
    assert scores[0] != scores[1]
    assert nd.discover(quiet, contrast, method=method).origin.model.setup == quiet.setup


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enable_thinkin": False}, r"no variable 'enable_thinkin'.*enable_thinking"),
        ({"messages": []}, "'messages' can't be set"),
        ({"tokenize": True}, "'tokenize' can't be set"),
        ({"no name": True}, "'no name' can't be set"),
        ({"enable_thinking": {1, 2}}, "Wanted: a JSON value"),
    ],
)
def test_options_that_a_template_would_ignore_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        subject_of(THINKS, template=Template(options))


def test_an_option_without_a_template_is_refused():
    with pytest.raises(OptionError, match="enable_thinking came, but the tokenizer has no chat template"):
        Subject.of(tiny_model("llama"), tiny_tokenizer(chat=False), template=Template({"enable_thinking": True}))


def test_variables_are_whole_words():
    assert names_variable("{{ a.thinking }}", "thinking")
    assert not names_variable("{{ enable_thinking }}", "thinking")


def test_of_several_templates_the_default_is_taken():
    tokenizer = templated({"default": THINKS, "tool_use": DROPS_ALL})
    assert str(tokenizer.decode(render(tokenizer, ["Why?"])[0])) == "<user>Why?<assistant><think>"
    with pytest.raises(PromptError, match="2 chat templates, none of them the default: a, b"):
        render(templated({"a": THINKS, "b": THINKS}), ["Why?"])


# ------------------------------------------------------------------------------------------- ends


def ending_tokenizer():
    from tokenizers import processors

    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 256), ("<eos>", 257)]
    )
    return tokenizer


def test_an_end_token_that_the_tokenizer_appends_is_dropped_and_recorded():
    tokenizer = ending_tokenizer()
    assert tokenizer("a")["input_ids"] == [256, 64, 257]
    assert appended(tokenizer) == (257,)
    assert encode(tokenizer, "a") == (256, 64)
    assert render(tokenizer, ["a"]) == [(256, 64)]
    assert encode(tokenizer, "a<eos>") == (256, 64, 257)
    subject = Subject.of(tiny_model("llama"), tokenizer)
    plain = Subject.of(tiny_model("llama"), tiny_tokenizer(chat=False))
    assert subject.setup == {"dropped_end": ["<eos>"]}
    first, second = (nd.generate(one, ["abc"], decoding=nd.Decoding(max_new_tokens=4)) for one in (subject, plain))
    assert first == second
    contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
    circuits = [nd.discover(one, contrast, method=nd.CNA(universal=None)) for one in (subject, plain)]
    assert circuits[0].rows == circuits[1].rows
    assert circuits[0].origin.model.setup == subject.setup
