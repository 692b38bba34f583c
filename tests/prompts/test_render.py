"""From prompts to tokens, on the byte tokenizer of the tiny models: every character can be counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.errors import ContextLengthError, PromptError
from neurodial.model.tiny import tiny_tokenizer
from neurodial.prompts.prompt import Message
from neurodial.prompts.render import check_context, post_instruction_length, render, with_system

BOS, EOS = 256, 257
CHAT, RAW = tiny_tokenizer(), tiny_tokenizer(chat=False)
TEMPLATE_WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
)
TEMPLATE_THAT_TRIMS = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | trim }}{% endfor %}"


def text_of(tokens) -> str:
    return str(CHAT.decode(list(tokens)))


def templated(template: str):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


# ------------------------------------------------------------------------------------------- chat template


def test_a_text_goes_through_the_chat_template():
    (tokens,) = render(CHAT, ["Why?"])
    assert text_of(tokens) == "<bos><user>Why?<eos><assistant>"


def test_a_chat_keeps_its_messages():
    chat = (Message("user", "A"), Message("assistant", "B"), Message("user", "C"))
    assert text_of(render(CHAT, [chat])[0]) == "<bos><user>A<eos><assistant>B<eos><user>C<eos><assistant>"


@pytest.mark.parametrize("answer", ["Sure, here", "", " ", "ends in a space "])
def test_a_chat_that_ends_in_an_answer_is_left_open(answer):
    (tokens,) = render(CHAT, [(Message("user", "A"), Message("assistant", answer))])
    assert text_of(tokens) == f"<bos><user>A<eos><assistant>{answer}"


def test_a_template_that_trims_leaves_an_answer_open_too():
    chat = (Message("user", "A"), Message("assistant", "Sure "))
    assert text_of(render(templated(TEMPLATE_THAT_TRIMS), [chat])[0]).rstrip() == "<user>A<assistant>Sure"


SPLITS_THINKING = (
    "{% for m in messages %}{% set parts = m['content'].split('</think>') %}<{{ m['role'] }}>"
    "{% if parts | length > 1 and KEEP %}[{{ parts[0].split('<think>')[-1].strip() }}]{% endif %}"
    "{{ parts[-1].strip() }}"
    "{% if not loop.last %}|{% else %}<eos>{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(("keep", "shown"), [("true", "[Hm.]Sure."), ("false", "Sure.")])
def test_an_answer_with_thinking_is_left_open_as_its_template_takes_it(keep, shown):
    chat = (Message("user", "A"), Message("assistant", "<think>\nHm.\n</think>\n\nSure. "))
    tokens = render(templated(SPLITS_THINKING.replace("KEEP", keep)), [chat])[0]
    assert text_of(tokens) == f"<user>A|<assistant>{shown}"
    doubled = render(templated(SPLITS_THINKING.replace("KEEP", keep)), [chat], double_bos=True)[0]
    assert text_of(doubled) == f"<bos><user>A|<assistant>{shown}"


def test_a_template_that_drops_the_answer_says_so():
    chat = (Message("user", "A"), Message("assistant", "<think>Hm.</think>Sure."))
    template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'].split('</think>')[0] }}{% endfor %}"
    with pytest.raises(PromptError, match=r"drops the end of the answer '<think>Hm\.</think>Sure\.'"):
        render(templated(template), [chat])


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1), min_size=1, max_size=4)
)
def test_each_prompt_is_rendered_alone_and_begins_once(texts):
    together = render(CHAT, texts)
    assert together == [render(CHAT, [text])[0] for text in texts]
    for text, tokens in zip(texts, together, strict=True):
        assert tokens.count(BOS) == 1
        assert tokens[0] == BOS
        assert text_of(tokens) == f"<bos><user>{text}<eos><assistant>"


def test_the_beginning_is_doubled_only_on_purpose():
    single, double = (render(CHAT, ["Why?"], double_bos=flag)[0] for flag in (False, True))
    assert double == (BOS, *single)
    assert (single.count(BOS), double.count(BOS)) == (1, 2)


# ------------------------------------------------------------------------------------------- system messages


def test_a_system_message_stands_before_a_prompt():
    assert text_of(render(CHAT, ["A"], system="Be brief.")[0]) == "<bos><system>Be brief.<eos><user>A<eos><assistant>"


def test_a_chat_keeps_its_own_system_message():
    chat = (Message("system", "Own."), Message("user", "A"))
    assert render(CHAT, [chat], system="Other.") == render(CHAT, [chat])
    assert with_system(chat, "Other.") is chat


def test_an_empty_system_message_is_one_and_none_is_none():
    assert with_system("A", None) == "A"
    assert with_system("A", "") == (Message("system", ""), Message("user", "A"))
    chat = (Message("user", "A"),)
    assert with_system(chat, "S") == (Message("system", "S"), Message("user", "A"))


def test_a_template_that_refuses_a_message_says_so():
    tokenizer = templated(TEMPLATE_WITHOUT_SYSTEM)
    assert render(tokenizer, ["A"])
    with pytest.raises(PromptError, match=r"refuses a chat of system, user: System role not supported"):
        render(tokenizer, ["A"], system="S")


def test_a_broken_template_says_so():
    with pytest.raises(PromptError, match="chat template refuses"):
        render(templated("{% for %}"), ["A"])


# ------------------------------------------------------------------------------------------- raw text


def test_without_a_template_the_raw_text_is_read():
    (tokens,) = render(RAW, ["Why?"])
    assert tokens == (BOS, *CHAT("Why?", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("double_bos", [False, True])
def test_raw_text_begins_once(double_bos):
    assert render(RAW, ["Why?"], double_bos=double_bos)[0].count(BOS) == 1


@pytest.mark.parametrize(("prompt", "system"), [("A", "S"), ((Message("user", "A"),), None)])
def test_without_a_template_a_chat_or_a_system_message_is_refused(prompt, system):
    with pytest.raises(PromptError, match="no chat template"):
        render(RAW, [prompt], system=system)


# ------------------------------------------------------------------------------------------- after the instruction


def test_the_tokens_after_the_instruction_are_those_of_the_template():
    assert post_instruction_length(CHAT) == 1 + len("<assistant>")


def test_a_template_may_put_nothing_after_the_instruction():
    with pytest.raises(PromptError, match="no tokens after"):
        post_instruction_length(templated("{% for message in messages %}{{ message['content'] }}{% endfor %}"))
    with pytest.raises(PromptError, match="no chat template"):
        post_instruction_length(RAW)


# ------------------------------------------------------------------------------------------- context


@given(lengths=st.lists(st.integers(1, 50), max_size=6), extra=st.integers(0, 20), limit=st.integers(1, 60))
def test_the_context_is_checked_exactly(lengths, extra, limit):
    too_long = [number for number, length in enumerate(lengths, start=1) if length + extra > limit]
    if not too_long:
        check_context(lengths, limit, extra=extra)
        return
    with pytest.raises(ContextLengthError, match=f"Prompt {too_long[0]} has .* at most {limit}"):
        check_context(lengths, limit, extra=extra)


def test_a_context_that_is_not_known_is_not_checked():
    check_context([10**9], None)


def test_what_is_too_long_is_said_with_the_new_tokens():
    with pytest.raises(ContextLengthError, match=r"Prompt 2 has 9 tokens and 4 new ones.*ask for fewer new tokens"):
        check_context([5, 9], 12, extra=4)
    with pytest.raises(ContextLengthError, match=r"Prompt 1 has 13 tokens\. .*Shorten the prompt\.$"):
        check_context([13], 12)
