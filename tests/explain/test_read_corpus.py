"""One pass over a corpus gives what a naive loop over single texts gives, in memory that does not grow."""

import itertools

import numpy as np
import pytest
import torch
from tests import naive
from tests.explain.digits import DIGITS, circuit, digit_subject, texts
from tests.subjects import circuit_of, shared
from tests.tolerance import of_activations

from neurodial.circuit.site import Neuron
from neurodial.errors import PromptError
from neurodial.explain.corpus import Corpus, corpus_of
from neurodial.explain.likeness import alike_in_writing, correlated, groups_of
from neurodial.explain.places import middle
from neurodial.explain.read_corpus import SAMPLE, read_corpus
from neurodial.prompts.pairs import PairSet


def some_corpus(subject, count=24):
    return corpus_of(subject, None, [f"{'word ' * (number % 5)}{number} pears" for number in range(count)], name="some")


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "phi3", "gemma3_text"])
@pytest.mark.parametrize("budget", [60, 4096])
def test_means_correlations_and_places_are_those_of_single_texts(family, budget):
    subject = shared(family)
    found, corpus = circuit_of(subject, 5), some_corpus(subject)
    reading = read_corpus(subject, found, corpus, shown=3, places=4, budget=budget)
    sequences = [text.tokens for text in corpus.texts]
    by_neuron = [naive.firing(subject.model, row.neuron, sequences) for row in found]
    table = torch.stack([torch.cat(values) for values in by_neuron]).double()
    close = of_activations(subject, table)
    assert reading.tokens == table.shape[1] == corpus.tokens
    assert float((reading.total / reading.tokens - table.mean(dim=1)).abs().max()) <= close
    assert np.allclose(reading.correlation.numpy(), np.corrcoef(table.numpy()), atol=1e-4)
    ranked = sorted(range(5), key=lambda k: -abs(found.rows[k].score))
    assert reading.watched.shown == tuple(ranked[:3])
    for place, channel in enumerate(reading.watched.shown):
        first = corpus.texts[0].first
        best = sorted((float(values[first:].max()) for values in by_neuron[channel]), reverse=True)
        kept = reading.places.strongest(place)
        assert [p.value for p in kept] == pytest.approx(best[:4], abs=close)
        assert len({p.text for p in kept}) == 4
        for p in kept:
            values = by_neuron[channel][p.text]
            assert p.value == pytest.approx(float(values[p.position]), abs=close)
            window = values[p.start : p.start + len(p.values)].tolist()
            assert list(p.values) == pytest.approx(window, abs=close)
        least = sorted(float(values[first:].min()) for values in by_neuron[channel])
        assert [p.value for p in reading.places.weakest(place)] == pytest.approx(least[:4], abs=close)


def test_correlations_with_a_whole_layer_are_those_of_all_its_neurons():
    subject = shared()
    found, corpus = circuit_of(subject, 4), some_corpus(subject)
    reading = read_corpus(subject, found, corpus, shown=0, places=1)
    sequences = [text.tokens for text in corpus.texts]
    channel = reading.watched.shown[0]
    own = found.rows[channel].neuron
    rows = [torch.cat(naive.firing(subject.model, Neuron(own.layer, None, k), sequences)).numpy() for k in range(24)]
    wanted = np.corrcoef(np.array(rows))[own.index]
    assert np.allclose(reading.in_layer(channel).numpy(), wanted, atol=1e-3)
    nearest = correlated(reading, channel, 3)
    best = next(k for k in np.argsort(-np.abs(wanted)) if k != own.index)
    in_layer = [n for n in nearest if n.layer == own.layer]
    assert in_layer[0].index == best
    assert all(abs(a.likeness) >= abs(b.likeness) for a, b in itertools.pairwise(nearest))


def test_neurons_that_write_alike_are_found_by_the_cosine_of_their_columns():
    subject = digit_subject()
    with torch.no_grad():
        weight = subject.down_weight(DIGITS.site)
        weight[:, 11] = -2 * weight[:, DIGITS.index]
    reading = read_corpus(subject, circuit(), texts(subject), shown=0, places=1)
    [first, *_] = alike_in_writing(subject, reading, 0)
    assert (first.layer, first.index, first.in_circuit) == (0, 11, False)
    assert first.likeness == pytest.approx(-1, abs=1e-6)


def test_the_drive_is_the_length_along_the_direction_of_what_dial_one_takes_out():
    subject = digit_subject()
    found, corpus = circuit(), texts(subject)
    reading = read_corpus(subject, found, corpus, shown=0, places=1)
    [best] = reading.places.strongest(2)
    values = torch.tensor(
        [naive.firing(subject.model, row.neuron, [corpus.texts[best.text].tokens])[0][best.position] for row in found]
    )
    columns = subject.down_columns(DIGITS.site, [row.neuron.index for row in found])
    doses = torch.tensor([row.dose for row in found])
    taken = columns @ (values * doses)
    assert best.value == pytest.approx(float(taken @ reading.watched.direction), rel=1e-4)
    assert float(reading.watched.direction.norm()) == pytest.approx(1)


def test_a_planted_neuron_fires_on_digits_and_nowhere_else():
    subject = digit_subject()
    corpus = texts(subject)
    reading = read_corpus(subject, circuit(), corpus, shown=0, places=6)
    tokens = [corpus.texts[p.text].tokens[p.position] for p in reading.places.strongest(0)]
    assert all(subject.tokenizer.decode([token]).isdigit() for token in tokens)
    assert all(p.value < 0.1 for p in middle(reading.places.sampled(0), 3))


def kept_numbers(reading):
    """How many numbers a reading holds on to."""
    tensors = [reading.total, reading.products, reading.histograms.counts, reading.histograms.reach]
    tensors += [t for sums in reading.layers.values() for t in (sums.total, sums.squares, sums.products)]
    channels = range(len(reading.watched.channels))
    places = [p for c in channels for p in (*reading.places.strongest(c), *reading.places.weakest(c))]
    longest = max(len(p.values) for p in places)
    return sum(t.numel() for t in tensors), len(places), len(reading.places.sampled(0)), longest


def test_what_is_kept_does_not_grow_with_the_corpus_and_it_is_read_about_once():
    subject = shared()
    found = circuit_of(subject, 4)
    few, many = (read_corpus(subject, found, some_corpus(subject, n), shown=2, places=3) for n in (300, 900))
    assert kept_numbers(few) == kept_numbers(many)
    assert kept_numbers(many)[2] == SAMPLE
    assert 1 < many.passes <= 1.2


def test_texts_know_their_side_and_where_the_user_speaks():
    subject = shared()
    pairs = PairSet.read("refusal")
    corpus = corpus_of(subject, pairs, ["mine"], name="mine.txt")
    assert (corpus.count("positive"), corpus.count("other")) == (204, 1)
    assert all(text.is_harmful == (text.side == "positive") for text in corpus.texts)
    last = corpus.texts[-1]
    assert subject.tokenizer.decode(last.tokens[last.first : last.last]) == "mine"
    with pytest.raises(PromptError, match="no texts"):
        corpus_of(subject, None, [])
    assert len(Corpus((), "none")) == 0


def test_groups_hold_together_by_correlation_of_either_sign():
    table = torch.eye(4, dtype=torch.float64)
    table[0, 1] = table[1, 0] = -0.9
    table[2, 3] = table[3, 2] = 0.4
    assert groups_of(table, 0.5) == [[0, 1], [2], [3]]
    assert groups_of(table, 0.3) == [[0, 1], [2, 3]]
    assert groups_of(torch.eye(1, dtype=torch.float64), 0.5) == [[0]]
