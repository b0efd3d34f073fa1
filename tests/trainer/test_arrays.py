"""Rows gathered from several arrays are those that indexing one by one gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.arrays import gathered


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_rows_of_several_arrays_come_in_the_order_asked_for(lengths, data):
    arrays = [np.random.default_rng(number).normal(size=(length, 2, 3)) for number, length in enumerate(lengths)]
    pairs = [(number, index) for number, length in enumerate(lengths) for index in range(length)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=20))
    which, indices = np.array(chosen).T
    rows = gathered(arrays, which, indices)
    assert rows.tolist() == [arrays[number][index].tolist() for number, index in chosen]
