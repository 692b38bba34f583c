"""inspect_ai evaluates a steered model by our provider, found by its entry point."""

import json

import pytest

import neurodial as nd
from neurodial.circuit.circuit import Origin, Row
from neurodial.errors import ModelMismatchError, OptionError, PromptError, UnknownNameError
from neurodial.model.tiny import tiny_subject

pytest.importorskip("inspect_ai", reason="needs inspect-ai: pip install 'neurodial[inspect]'")

QUESTIONS = [f"What is {n} and {n}?" for n in range(5)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model on disk, and a circuit of it."""
    subject = tiny_subject("qwen2")
    folder = tmp_path_factory.mktemp("model")
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    subject = nd.load(folder)
    rows = [Row(nd.Neuron(layer, None, index), 1.0, 3.0) for layer in range(2) for index in range(0, 24, 2)]
    circuit = nd.Circuit.of(rows, name="mine", origin=Origin(subject.identity))
    return subject, folder, circuit, str(circuit.write(folder / "mine.circuit.json"))


def answered(folder, tmp_path, **arguments):
    """What inspect_ai logs of a task that asks the questions, by its own `eval`."""
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    dataset = [Sample(input=question, target="x") for question in QUESTIONS]
    [log] = inspect_ai.eval(
        inspect_ai.Task(dataset=dataset, scorer=includes()), model=f"neurodial/{folder}", model_args=arguments,
        max_tokens=6, log_dir=str(tmp_path), display="none",
    )  # fmt: skip
    return log


def test_answers_are_those_of_the_steered_model(saved, tmp_path):
    subject, folder, circuit, file = saved
    decoding = nd.Decoding(max_new_tokens=6)
    texts = {}
    for name, arguments, under in (
        ("plain", {}, None),
        ("steered", {"circuit": file, "dial": 0.5}, nd.Scale(circuit, 0.5)),
        ("both", {"circuit": f"{file}+{file}", "dial": "0.5+0.25", "batch_size": 2}, nd.Scale(circuit, 0.75)),
    ):
        log = answered(folder, tmp_path / name, **arguments)
        assert log.status == "success"
        expected = nd.generate(subject, QUESTIONS, under=under, decoding=decoding)
        texts[name] = [sample.output.completion for sample in log.samples]
        assert texts[name] == [answer.text for answer in expected]
        assert [sample.output.usage.output_tokens for sample in log.samples] == [len(a.tokens) for a in expected]
        assert log.samples[0].output.metadata["model_digest"] == subject.identity.digest
    assert len({json.dumps(each) for each in texts.values()}) == 3


def test_what_waits_together_is_answered_together(saved):
    """Chats with a system message too; each decoding is a batch of its own."""
    import anyio
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig

    from neurodial.evaluation import inspect_model

    subject, folder, _, _ = saved
    api = inspect_model.NeurodialAPI(str(folder), batch_size=4)
    sizes, plain = [], inspect_model.generate

    def counted(subject, prompts, **options):
        sizes.append(len(prompts))
        return plain(subject, prompts, **options)

    outputs = {}

    async def ask(number, tokens):
        chat = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content=QUESTIONS[number])]
        outputs[number] = await api.generate(chat, [], "none", GenerateConfig(max_tokens=tokens))

    async def all_at_once():
        async with anyio.create_task_group() as group:
            for number, tokens in enumerate((3, 3, 3, 3, 5)):
                group.start_soon(ask, number, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect_model, "generate", counted)
        anyio.run(all_at_once)
    assert sorted(sizes) == [1, 4]
    decoding = nd.Decoding(max_new_tokens=3, system="Be brief.")
    expected = nd.generate(subject, QUESTIONS[:4], decoding=decoding)
    assert [outputs[number].completion for number in range(4)] == [answer.text for answer in expected]


def test_what_can_not_be_done_is_an_error_of_the_sample(saved):
    import anyio
    from inspect_ai.model import ChatMessageUser, ContentImage, GenerateConfig

    from neurodial.evaluation.inspect_model import NeurodialAPI

    api = NeurodialAPI(str(saved[1]))
    user, picture = ChatMessageUser(content="Hi"), ChatMessageUser(content=[ContentImage(image="data:image/png;x")])
    for config, tools, message, error, said in (
        (GenerateConfig(stop_seqs=["x"]), [], user, OptionError, "stop_seqs"),
        (GenerateConfig(logprobs=True), [], user, OptionError, "logprobs"),
        (GenerateConfig(), ["a tool"], user, OptionError, "tools"),
        (GenerateConfig(max_tokens=4), [], picture, PromptError, "holds image"),
    ):
        with pytest.raises(error, match=said):
            anyio.run(api.generate, [message], tools, "none", config)


def test_model_arguments_are_checked_before_the_first_sample(saved, tmp_path):
    from neurodial.evaluation.inspect_model import NeurodialAPI

    _, folder, circuit, file = saved
    with pytest.raises(UnknownNameError, match="Did you mean dial"):
        NeurodialAPI(str(folder), circuit=file, dails=1)
    with pytest.raises(OptionError, match="2 circuits and 3 dials"):
        NeurodialAPI(str(folder), circuit=f"{file}+{file}", dial="1+2+3")
    other = nd.Circuit.of(circuit.rows, origin=Origin(tiny_subject("qwen2", seed=1).identity))
    with pytest.raises(ModelMismatchError):
        NeurodialAPI(str(folder), circuit=str(other.write(tmp_path / "other.circuit.json")))
