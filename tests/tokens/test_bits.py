"""Bits per base, by hand."""

from math import log

import pytest

from kleiber.tokens.bits import bits_per_base


def test_by_hand():
    # Two tokens of 3 and 5 bases, with probabilities 1/4 and 1/64: 2 + 6 bits over 8 bases.
    assert bits_per_base(log(4) + log(64), 3 + 5) == pytest.approx(1.0)
    # A uniform guess of each base is 2 bits whatever the tokens are: 64 three-base words at ln 64 nats each.
    assert bits_per_base(10 * log(64), 30) == pytest.approx(2.0)
