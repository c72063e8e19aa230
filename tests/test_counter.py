"""The counter-based generator is numpy's Philox, word for word."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kleiber import counter

word = st.integers(0, 2**64 - 1)


def numpy_philox(seed: int, stream: int, index: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, stream], np.uint64), counter=np.array([0, index, 0, 0], np.uint64))


@given(word, word, word, st.integers(0, 40))
def test_draws_are_numpys(seed, stream, index, n):
    expected = numpy_philox(seed, stream, index).random_raw(n)
    assert np.array_equal(counter.draws(seed, stream, index, n), np.asarray(expected, np.uint64).reshape(-1))


@given(word, word, word)
def test_single_draws_and_uniforms_are_numpys(seed, stream, index):
    raw = numpy_philox(seed, stream, index).random_raw(9)
    key = np.uint64(seed), np.uint64(stream), np.uint64(index)
    assert [int(counter.draw(*key, np.uint64(n))) for n in range(9)] == [int(r) for r in raw]
    generator = np.random.Generator(numpy_philox(seed, stream, index))
    assert np.array_equal(counter.uniforms(seed, stream, index, 9), generator.random(9))


def test_known_answer():
    """Random123's published vector for philox4x64-10 with every bit of counter and key set."""
    ones = 2**64 - 1
    raw = np.random.Philox(key=np.full(2, ones, np.uint64), counter=np.array([ones - 1, ones, ones, ones], np.uint64))
    assert [hex(int(w)) for w in raw.random_raw(4)] == [
        "0x87b092c3013fe90b",
        "0x438c3c67be8d0224",
        "0x9cc7d7c69cd777b6",
        "0xa09caebf594f0ba0",
    ]


def test_bounded_is_lemire_with_rejection():
    """A bound just above 2^63 rejects about half of the words: compare with Lemire's method in exact integers."""
    bound = 2**63 + 1
    threshold = (2**64 - bound) % bound
    for index in range(200):
        words = [int(w) for w in counter.draws(5, 6, index, 40)]
        used = next(n for n, w in enumerate(words) if (w * bound) % 2**64 >= threshold)
        value, following = counter.bounded(np.uint64(5), np.uint64(6), np.uint64(index), np.uint64(0), np.uint64(bound))
        assert (int(value), int(following)) == ((words[used] * bound) >> 64, used + 1)


def test_bounded_is_uniform():
    counts = np.zeros(7, int)
    for index in range(7000):
        counts[int(counter.bounded(np.uint64(1), np.uint64(2), np.uint64(index), np.uint64(0), np.uint64(7))[0])] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 22.5  # chi-squared, 6 degrees of freedom, p = 0.001


def test_permutation_is_one():
    order = counter.permutation(3, counter.stream_id("order"), 0, 1000)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(order, np.arange(1000))


def test_streams_differ_by_name():
    assert counter.stream_id("masks") != counter.stream_id("windows")
    assert 0 <= counter.stream_id("masks") < 2**64
