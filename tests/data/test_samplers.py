"""batching: each row once, equal shares, an order that seed and epoch alone decide."""

from collections import Counter

import numpy as np
import pytest

from plcli.data.samplers import LengthOrderedBatches, ShuffledBatches

RANKS = pytest.mark.parametrize("world_size", [1, 2, 3])
BATCH_SIZES = pytest.mark.parametrize("batch_size", [1, 2, 4, 50])
NUMBERS_OF_ROWS = range(3, 42)
LENGTHS = np.random.default_rng(0).integers(1, 60, 100).astype(np.int32)


def shuffled(
    num_rows: int = 40,
    *,
    batch_size: int = 4,
    seed: int = 1,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[int]]:
    """Return an epoch's batches of one rank."""
    batches = ShuffledBatches(
        [1] * num_rows, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
    )
    batches.set_epoch(epoch)
    return list(batches)


def by_length(
    lengths: np.ndarray = LENGTHS,
    *,
    batch_size: int = 4,
    window: int = 20,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[int]]:
    """Return the batches of one rank in length order."""
    return list(
        LengthOrderedBatches(
            lengths, batch_size=batch_size, window=window, rank=rank, world_size=world_size
        )
    )


def count_rows(ranks: list[list[list[int]]]) -> Counter[int]:
    return Counter(row for batches in ranks for batch in batches for row in batch)


# shuffled


def shares(num_rows: int, *, batch_size: int, world_size: int) -> list[list[list[int]]]:
    """Return an epoch's batches of every rank."""
    return [
        shuffled(num_rows, batch_size=batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


@RANKS
@BATCH_SIZES
def test_an_epoch_gives_each_row_once_over_all_ranks(world_size: int, batch_size: int) -> None:
    wrong = [
        num_rows
        for num_rows in NUMBERS_OF_ROWS
        if count_rows(shares(num_rows, batch_size=batch_size, world_size=world_size))
        != Counter(range(num_rows))
    ]
    assert wrong == []


@RANKS
@BATCH_SIZES
def test_all_ranks_get_as_many_batches_as_the_length_says(world_size: int, batch_size: int) -> None:
    expected, got = [], []
    for num_rows in NUMBERS_OF_ROWS:
        sampler = ShuffledBatches(
            [1] * num_rows, batch_size=batch_size, seed=1, world_size=world_size
        )
        ranks = shares(num_rows, batch_size=batch_size, world_size=world_size)
        expected.append([len(sampler)] * world_size)
        got.append([len(batches) for batches in ranks])
    assert got == expected


@RANKS
@BATCH_SIZES
def test_no_batch_is_empty(world_size: int, batch_size: int) -> None:
    assert all(
        batch
        for num_rows in NUMBERS_OF_ROWS
        for batches in shares(num_rows, batch_size=batch_size, world_size=world_size)
        for batch in batches
    )


@pytest.mark.parametrize(("num_rows", "sizes"), [(8, [4, 4]), (9, [4, 4, 1]), (3, [3])])
def test_batches_are_full_but_for_the_last(num_rows: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in shuffled(num_rows)] == sizes


def test_rows_too_few_for_a_batch_on_every_rank_join_the_last_batch() -> None:
    ranks = [shuffled(25, rank=rank, world_size=3) for rank in range(3)]
    assert [[len(batch) for batch in batches] for batches in ranks] == [[4, 5], [4, 4], [4, 4]]


def test_the_order_is_not_that_of_the_rows() -> None:
    assert [row for batch in shuffled() for row in batch] != list(range(40))


def test_the_order_is_another_one_in_the_next_epoch() -> None:
    assert shuffled(epoch=0) != shuffled(epoch=1)


def test_the_order_is_another_one_with_another_seed() -> None:
    assert shuffled(seed=1) != shuffled(seed=2)


def test_seed_and_epoch_are_not_added_up() -> None:
    assert shuffled(seed=1, epoch=2) != shuffled(seed=2, epoch=1)


def test_the_order_is_the_same_for_the_same_seed_and_epoch() -> None:
    assert shuffled(seed=3, epoch=5) == shuffled(seed=3, epoch=5)


def test_the_order_of_an_epoch_does_not_depend_on_the_epochs_before() -> None:
    batches = ShuffledBatches([1] * 40, batch_size=4, seed=1)
    for epoch in (0, 1, 2):
        batches.set_epoch(epoch)
        last = list(batches)
    assert last == shuffled(epoch=2)


def test_the_random_state_of_numpy_does_not_change_the_order() -> None:
    before = shuffled()
    np.random.seed(123)
    assert shuffled() == before


def test_iterating_again_without_a_new_epoch_gives_the_same_order() -> None:
    batches = ShuffledBatches([1] * 40, batch_size=4, seed=1)
    assert list(batches) == list(batches)


def test_a_global_batch_holds_the_same_rows_however_many_ranks_share_it() -> None:
    alone = shuffled(48, batch_size=6)
    ranks = [shuffled(48, batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    together = [sorted(a + b) for a, b in zip(*ranks, strict=True)]
    assert together == [sorted(batch) for batch in alone]


def test_lightning_finds_set_epoch_on_the_sampler() -> None:
    batches = ShuffledBatches([1] * 40, batch_size=4, seed=1)
    batches.set_epoch(7)
    assert list(batches) == shuffled(epoch=7)


def test_fewer_rows_than_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="^2 rows cannot be distributed among 3 ranks$"):
        ShuffledBatches([1] * 2, batch_size=4, seed=1, world_size=3)


# ordered by length


@RANKS
@BATCH_SIZES
@pytest.mark.parametrize("num_rows", [0, 1, 19, 20, 21, 100])
def test_length_order_gives_each_row_once_over_all_ranks(
    world_size: int, batch_size: int, num_rows: int
) -> None:
    ranks = [
        by_length(LENGTHS[:num_rows], batch_size=batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert count_rows(ranks) == Counter(range(num_rows))


@RANKS
@pytest.mark.parametrize("num_rows", [0, 1, 19, 20, 21, 100])
def test_length_order_gives_as_many_batches_as_its_length_says(
    world_size: int, num_rows: int
) -> None:
    samplers = [
        LengthOrderedBatches(
            LENGTHS[:num_rows], batch_size=4, window=20, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_ranks_differ_by_one_batch_at_most() -> None:
    counts = [len(by_length(LENGTHS[:41], rank=rank, world_size=3)) for rank in range(3)]
    assert max(counts) - min(counts) <= 1


def test_rows_are_sorted_inside_a_window_longest_first() -> None:
    first_window = [row for batch in by_length()[:5] for row in batch]
    lengths = LENGTHS[first_window].tolist()
    assert lengths == sorted(LENGTHS[:20].tolist(), reverse=True)


def test_a_window_holds_its_own_rows_alone() -> None:
    batches = by_length(window=20)
    windows = [{row // 20 for batch in batches[i : i + 5] for row in batch} for i in (0, 5, 10)]
    assert windows == [{0}, {1}, {2}]


def test_rows_of_one_length_stay_in_their_order() -> None:
    batches = by_length(np.tile([7, 3], 40), window=80)
    assert [row for batch in batches for row in batch] == [*range(0, 80, 2), *range(1, 80, 2)]


def test_length_order_pads_less_than_the_rows_as_they_come() -> None:
    def width(batches: list[list[int]]) -> int:
        return sum(len(batch) * int(LENGTHS[batch].max()) for batch in batches)

    as_they_come = [list(range(start, start + 4)) for start in range(0, 100, 4)]
    assert width(by_length(window=100)) < 0.75 * width(as_they_come)


def test_length_order_is_the_same_every_time() -> None:
    assert by_length() == by_length()


# tokens a batch, and windows


def shuffled_lengths(
    *, epoch: int = 0, rank: int = 0, world_size: int = 1, **settings: int
) -> list[list[int]]:
    batches = ShuffledBatches(LENGTHS, seed=3, rank=rank, world_size=world_size, **settings)
    batches.set_epoch(epoch)
    return list(batches)


@RANKS
@pytest.mark.parametrize("tokens", [1, 40, 200, 10**6])
def test_batches_of_tokens_give_each_row_once_over_all_ranks(tokens: int, world_size: int) -> None:
    ranks = [
        shuffled_lengths(tokens_per_batch=tokens, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert count_rows(ranks) == Counter(range(len(LENGTHS)))


@RANKS
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("tokens", [1, 40, 200, 10**6])
def test_batches_of_tokens_are_as_many_on_every_rank_and_none_is_empty(
    tokens: int, epoch: int, world_size: int
) -> None:
    ranks = [
        shuffled_lengths(tokens_per_batch=tokens, epoch=epoch, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    lengths = {len(batches) for batches in ranks}
    assert (len(lengths), min(len(batch) for batches in ranks for batch in batches) > 0) == (
        1,
        True,
    )


def test_batches_of_tokens_hold_about_so_many() -> None:
    counts = [int(LENGTHS[batch].sum()) for batch in shuffled_lengths(tokens_per_batch=200)]
    assert all(100 < count < 300 for count in counts), counts


def test_windows_of_sorted_batches_pad_less_than_random_batches() -> None:
    def padded(batches: list[list[int]]) -> int:
        return sum(len(batch) * int(LENGTHS[batch].max()) for batch in batches)

    random = shuffled_lengths(batch_size=4, window=1)
    assert padded(shuffled_lengths(batch_size=4, window=8)) < 0.85 * padded(random)


@pytest.mark.parametrize(("window", "pieces"), [(1, 4), (2, 1), (50, 1)])
def test_random_batches_are_to_be_parted_and_sorted_ones_are_not(window: int, pieces: int) -> None:
    assert ShuffledBatches(LENGTHS, batch_size=4, window=window).pieces == pieces


def test_a_batch_of_two_pieces_is_two_runs_of_the_sorted_window() -> None:
    lengths = np.arange(64)
    batches = list(ShuffledBatches(lengths, batch_size=8, window=8, pieces=2))
    pieces = [tuple(sorted(batch)[half : half + 4]) for batch in batches for half in (0, 4)]
    assert sorted(pieces) == [tuple(range(first, first + 4)) for first in range(0, 64, 4)]


def test_pieces_of_a_batch_come_from_anywhere_in_the_window() -> None:
    batches = ShuffledBatches(np.arange(6400), batch_size=8, window=100, pieces=2)
    spans = [max(batch) - min(batch) for batch in batches]
    # two independent draws from 0..1 lie 1/3 apart on average: of a window of 800 lengths, of 6,400
    assert 0.25 < np.mean(spans) / 6400 < 0.42


@RANKS
@pytest.mark.parametrize("tokens", [None, 60])
@pytest.mark.parametrize("pieces", [1, 2, 3, 50])
def test_dealt_pieces_give_each_row_once_over_all_ranks(
    pieces: int, tokens: int | None, world_size: int
) -> None:
    size = {"batch_size": 5} if tokens is None else {"tokens_per_batch": tokens}
    ranks = [
        shuffled_lengths(**size, window=4, pieces=pieces, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert (count_rows(ranks), len({len(batches) for batches in ranks})) == (
        Counter(range(len(LENGTHS))),
        1,
    )


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_dealt_pieces_keep_to_the_batch_size(pieces: int) -> None:
    batches = shuffled_lengths(batch_size=5, window=4, pieces=pieces)
    assert max(map(len, batches)) == 5


def test_sorted_windows_of_batches_of_tokens_hold_about_so_many() -> None:
    batches = shuffled_lengths(tokens_per_batch=200, window=4)
    counts = [int(LENGTHS[batch].sum()) for batch in batches]
    assert all(100 < count < 300 for count in counts), counts


@pytest.mark.parametrize(("rows", "window"), [(40, 1), (990, 1), (1000, 50), (80_000, 50)])
def test_a_window_is_of_fifty_batches_where_an_epoch_is_not_short(rows: int, window: int) -> None:
    assert ShuffledBatches(np.ones(rows), batch_size=10).window == window


@RANKS
def test_windows_give_each_row_once_over_all_ranks(world_size: int) -> None:
    ranks = [
        shuffled_lengths(batch_size=4, window=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert count_rows(ranks) == Counter(range(len(LENGTHS)))


def test_windows_have_another_order_every_epoch() -> None:
    first, second = (shuffled_lengths(batch_size=4, window=3, epoch=epoch) for epoch in (0, 1))
    assert first != second


def test_evaluation_batches_of_tokens_stay_below_them_with_their_padding() -> None:
    batches = list(LengthOrderedBatches(LENGTHS, tokens_per_batch=120))
    assert max(len(batch) * int(LENGTHS[batch].max()) for batch in batches) <= 120
