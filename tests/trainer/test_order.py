"""The order of examples: a permutation of all of them, in windows that fit, and seekable."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.draw import draw, draws, permutation, sample
from trainer.order import PassOrder

parts = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 100)), min_size=1, max_size=20)
KEY = st.tuples(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 5))


def make(sizes: list[tuple[int, int]], window_bytes: int, key: tuple[int, int, int]) -> PassOrder:
    counts, num_bytes = np.array(sizes).T
    return PassOrder(counts, num_bytes, window_bytes, key)


def walk(order: PassOrder) -> list[tuple[int, int]]:
    sizes = [order.window(number).num_examples for number in range(order.num_windows)]
    pairs = [np.stack(order.located(number, np.arange(size)), axis=1) for number, size in enumerate(sizes)]
    return [(int(part), int(index)) for part, index in np.concatenate(pairs)]


@given(parts, st.integers(1, 300), KEY)
def test_every_example_comes_exactly_once(sizes, window_bytes, key):
    seen = walk(make(sizes, window_bytes, key))
    assert sorted(seen) == [(part, index) for part, (num, _) in enumerate(sizes) for index in range(num)]


@given(parts, st.integers(1, 300), KEY)
def test_a_window_fits_unless_it_is_one_shard(sizes, window_bytes, key):
    order = make(sizes, window_bytes, key)
    for number in range(order.num_windows):
        window = order.window(number)
        held = sum(sizes[part][1] for part in window.parts.tolist())
        assert held <= window_bytes or len(window.parts) == 1


@given(parts, st.integers(1, 300), KEY)
def test_any_place_is_found_in_its_window(sizes, window_bytes, key):
    order = make(sizes, window_bytes, key)
    for place in range(order.num_examples):
        window = order.window(order.window_at(place))
        assert window.start <= place < window.start + window.num_examples


@given(parts, KEY)
def test_the_order_is_a_function_of_its_key(sizes, key):
    assert walk(make(sizes, 50, key)) == walk(make(sizes, 50, key))


def test_another_epoch_has_another_order():
    sizes = [(50, 10)] * 4
    orders = {tuple(walk(make(sizes, 20, (0, 1, epoch)))) for epoch in range(5)}
    assert len(orders) == 5


def test_a_place_among_a_hundred_million_is_found_without_reading_through_them():
    counts = np.full(10_000, 10_000)
    order = PassOrder(counts, np.full(10_000, 10**6), 10**8, (0, 1, 0))
    number = order.window_at(77_777_777)
    within = 77_777_777 - order.window(number).start + np.arange(32)
    parts, indices = order.located(number, within)
    assert set(parts.tolist()) <= set(order.window(number).parts.tolist())
    again = order.located(number, within[16:])
    assert [parts[16:].tolist(), indices[16:].tolist()] == [one.tolist() for one in again]


def test_draws_stay_the_same_for_ever():
    """Known values of splitmix64: an order must not change with a version of anything."""
    assert [draw(1234567, place) for place in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert draws(1234567, np.arange(3)).tolist() == [draw(1234567, place) for place in range(3)]


def test_a_permutation_stays_the_same_for_ever():
    """The order of the draws, however many there are; also of more than are drawn at a time."""
    assert permutation(1234567, 6).tolist() == [1, 3, 0, 5, 2, 4]
    drawn = [draw(7, place) for place in range(40_000)]
    assert permutation(7, 40_000).tolist() == sorted(range(40_000), key=drawn.__getitem__)


@given(st.integers(0, 2**64 - 1), st.integers(0, 200))
def test_a_permutation_has_each_number_once(key, num):
    assert sorted(permutation(key, num).tolist()) == list(range(num))


@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(0, 1000))
def test_a_sample_is_distinct_sorted_and_within(key, num, more):
    chosen = sample(key, num, num + more)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == num
    assert all(0 <= number < num + more for number in chosen)


def test_a_sample_is_not_biased_to_one_end():
    counts = np.zeros(20)
    for key in range(4000):
        counts[sample(key * 7919, 5, 20)] += 1
    assert counts.min() > 850
    assert counts.max() < 1150
