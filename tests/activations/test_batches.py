"""How sequences are grouped."""

from hypothesis import given
from hypothesis import strategies as st

from neurodial.activations.batches import TOKEN_BUDGET, batches, common_prefix, padded

SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=15)


@given(SEQUENCES, st.integers(1, 60), st.sampled_from(["left", "right"]))
def test_every_row_comes_once_and_whole(sequences, budget, side):
    seen = []
    for batch in batches(sequences, pad=9, side=side, budget=budget):
        assert len(batch.rows) == 1 or batch.tokens.numel() <= budget
        for row, tokens, length in zip(batch.rows, batch.tokens.tolist(), batch.lengths, strict=True):
            kept = tokens[len(tokens) - length :] if side == "left" else tokens[:length]
            filling = tokens[: len(tokens) - length] if side == "left" else tokens[length:]
            assert kept == sequences[row]
            assert set(filling) <= {9}
            seen.append(row)
    assert sorted(seen) == list(range(len(sequences)))


def test_little_is_padded_where_batches_are_full_enough():
    """Lengths from 42 to 67, as rendered requests have them: a batch of all would be a quarter padding."""
    sequences = [[1] * length for length in range(42, 68) for _ in range(3)]
    found = list(batches(sequences, pad=0))
    whole = sum(map(len, sequences))
    padding = sum(batch.tokens.numel() for batch in found) / whole - 1
    assert padding < 0.12
    assert all(batch.tokens.numel() >= TOKEN_BUDGET // 4 for batch in found[:-1]), "none too small to be fast"
    assert len(sequences) * 67 / whole - 1 > 0.2


@given(SEQUENCES)
def test_the_longest_come_first(sequences):
    widths = [batch.tokens.shape[1] for batch in batches(sequences, pad=0, budget=12)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == max(map(len, sequences))


@given(SEQUENCES)
def test_the_common_prefix_is_the_longest_that_all_begin_with(sequences):
    length = common_prefix(sequences)
    assert len({tuple(sequence[:length]) for sequence in sequences}) == 1
    longer = {tuple(sequence[: length + 1]) for sequence in sequences}
    assert len(longer) > 1 or min(map(len, sequences)) == length


def test_padding():
    assert padded([[1], [2, 3]], 0, "left").tolist() == [[0, 1], [2, 3]]
    assert padded([[1], [2, 3]], 0, "right").tolist() == [[1, 0], [2, 3]]
