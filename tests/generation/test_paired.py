"""Paired decoding: each stream is what `generate` gives, and its damage what `measure_divergence` gives."""

import pytest
import torch
from tests.studio.conftest import small_circuit
from tests.subjects import SOME_FAMILIES
from tests.tolerance import of_log_probs, of_margins

from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence
from neurodial.generation.generate import generate, stop_tokens
from neurodial.generation.paired import SIDES, _Draw, _Stream, paired_decoding
from neurodial.generation.text_stream import TextStream
from neurodial.intervention.scale import Scale
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Message
from neurodial.prompts.render import render

GREEDY = Decoding(max_new_tokens=10)


def of_side(tokens, side):
    return [token for token in tokens if token.side == side]


def ids_of(compared, side):
    return tuple(token.token for token in of_side(compared, side) if not token.is_end)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_each_stream_is_the_greedy_answer_under_its_side(family):
    subject, scale = tiny_subject(family), Scale(small_circuit(), dial=2.0)
    compared = list(paired_decoding(subject, ("Hi there", "Hi there"), scale, decoding=GREEDY))
    answers = generate(subject, ["Hi there"] * 2, under=[None, scale], decoding=GREEDY)
    assert [ids_of(compared, side) for side in SIDES] == [answer.tokens for answer in answers]
    assert ids_of(compared, "unsteered") != ids_of(compared, "steered"), "the circuit does something"
    whole = ["".join(token.text for token in of_side(compared, side)) for side in SIDES]
    assert all(answer.text.startswith(text) for answer, text in zip(answers, whole, strict=True))


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_damage_so_far_is_the_divergence_of_the_same_tokens(family):
    subject, scale = tiny_subject(family), Scale(small_circuit(), dial=2.0)
    compared = of_side(paired_decoding(subject, ("Hi", "Hi"), scale, decoding=GREEDY), "unsteered")
    [prompt] = render(subject.tokenizer, ["Hi"])
    for length in (1, 4, len(compared)):
        tokens = tuple(token.token for token in compared[:length] if not token.is_end)
        passage = Passage((*prompt, *tokens), len(prompt), length)
        [found] = measure_divergence(subject, [passage], [scale])
        assert compared[length - 1].kl_so_far == pytest.approx(found.mean, abs=of_margins(subject))
    assert compared[-1].kl_so_far > 1e-3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_at_dial_zero_both_sides_are_one(temperature):
    decoding = Decoding(max_new_tokens=10, temperature=temperature, seed=3)
    subject = tiny_subject()
    compared = list(paired_decoding(subject, ("Hi", "Hi"), Scale(small_circuit(), dial=0.0), decoding=decoding))
    assert ids_of(compared, "unsteered") == ids_of(compared, "steered")
    # Two rows of one batch are the same sums in another order: rounding of float32, far below any dial's effect.
    assert max(abs(token.kl) for token in compared) <= of_margins(subject)
    assert all(token.unsteered == pytest.approx(token.steered, rel=of_log_probs(subject)) for token in compared)


def test_chats_that_differ_each_keep_their_own():
    subject, scale = tiny_subject(), Scale(small_circuit(), dial=2.0)
    chats = tuple((Message("user", "Hi"), Message("assistant", text), Message("user", "More")) for text in ("a", "bcd"))
    compared = list(paired_decoding(subject, chats, scale, decoding=GREEDY))
    answers = generate(subject, chats, under=[None, scale], decoding=GREEDY)
    assert [ids_of(compared, side) for side in SIDES] == [answer.tokens for answer in answers]


def test_probabilities_of_both_sides_stand_with_every_token():
    subject, scale = tiny_subject(), Scale(small_circuit(), dial=2.0)
    compared = of_side(paired_decoding(subject, ("Hi", "Hi"), scale, decoding=GREEDY), "steered")
    [prompt] = render(subject.tokenizer, ["Hi"])
    fed = torch.tensor([[*prompt, *(token.token for token in compared[:-1])]])
    with torch.no_grad():
        plain = subject.model(fed).logits[0].log_softmax(dim=-1).exp()
    for place, token in enumerate(compared):
        expected = float(plain[len(prompt) - 1 + place, token.token])
        assert token.unsteered == pytest.approx(expected, abs=of_log_probs(subject))
        assert token.steered == max(other.steered for other in token.alternatives)
        assert sum(other.steered for other in token.alternatives) <= 1 + 1e-6


def test_sampling_follows_its_seed_and_temperature():
    subject, scale = tiny_subject(), Scale(small_circuit(), dial=1.0)

    def answer(**options):
        return ids_of(
            paired_decoding(subject, ("Hi", "Hi"), scale, decoding=Decoding(max_new_tokens=8, **options)), "steered"
        )

    assert answer(temperature=1.0, seed=1) == answer(temperature=1.0, seed=1)
    assert answer(temperature=1.0, seed=1) != answer(temperature=1.0, seed=2)
    assert answer(temperature=0.0, seed=1) == answer(temperature=0.0, seed=2)
    assert answer(temperature=5.0, top_p=1e-6, seed=4) == answer(temperature=0.0), "a tiny nucleus is greedy"
    assert answer(temperature=5.0, seed=4) != answer(temperature=0.0)


def test_sampling_draws_from_the_distribution():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    subject = tiny_subject()
    draw = _Draw(Decoding(temperature=1.0, seed=5), subject.tokenizer, frozenset())
    counts = torch.zeros(4)
    for _ in range(2000):
        noise = draw.noise(subject)
        counts[
            draw.next_of(
                _Stream("steered", TextStream(subject.tokenizer)), probabilities.log().expand(2, 4), noise, None
            ).token
        ] += 1
    errors = (probabilities * (1 - probabilities) / 2000).sqrt()
    assert bool(((counts / 2000 - probabilities).abs() < 4 * errors).all()), "four standard errors, a fixed seed"


def test_openers_share_of_the_first_token():
    subject, scale = tiny_subject(), Scale(small_circuit(), dial=2.0)
    openers = ((65, 1), (65, 2), (70,))
    compared = list(paired_decoding(subject, ("Hi", "Hi"), scale, decoding=GREEDY, openers=openers))
    [prompt] = render(subject.tokenizer, ["Hi"])
    with torch.no_grad():
        plain = subject.model(torch.tensor([prompt])).logits[0, -1].softmax(dim=-1)
    once = pytest.approx(float(plain[65] + plain[70]), abs=of_log_probs(subject))
    assert compared[0].openers[0] == once, "each first token counts once"
    assert compared[0].openers[0] != compared[0].openers[1]
    assert all(token.openers is None for token in compared if token.step)


def test_a_side_that_ends_says_so_and_stops():
    subject = tiny_subject()
    [plain] = generate(subject, ["Hi"], decoding=GREEDY)
    subject.model.generation_config.eos_token_id = [plain.tokens[3]]
    compared = list(paired_decoding(subject, ("Hi", "Hi"), Scale(small_circuit(), dial=2.0), decoding=GREEDY))
    ended = of_side(compared, "unsteered")
    assert [token.is_end for token in ended] == [False] * 3 + [True]
    assert ended[-1].token in stop_tokens(subject)
    assert ended[-1].text == ""
    assert len(of_side(compared, "steered")) > 4


def test_stopping_early_gives_the_model_back():
    subject = tiny_subject()
    before = [len(module._forward_pre_hooks) for module in subject.model.modules()]
    running = paired_decoding(subject, ("Hi", "Hi"), Scale(small_circuit(), dial=2.0), decoding=GREEDY)
    next(running)
    assert [len(module._forward_pre_hooks) for module in subject.model.modules()] != before
    running.close()
    assert [len(module._forward_pre_hooks) for module in subject.model.modules()] == before
