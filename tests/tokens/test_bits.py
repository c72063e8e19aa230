"""Bits per base, by hand."""

from math import log

import numpy as np
import pytest

from kleiber.tokens.bits import base_nats, bits_per_base, letters
from kleiber.tokens.train import train_tokenizer


def test_by_hand():
    # Two tokens of 3 and 5 bases, with probabilities 1/4 and 1/64: 2 + 6 bits over 8 bases.
    assert bits_per_base(log(4) + log(64), 3 + 5) == pytest.approx(1.0)
    # A uniform guess of each base is 2 bits whatever the tokens are: 64 three-base words at ln 64 nats each.
    assert bits_per_base(10 * log(64), 30) == pytest.approx(2.0)


@pytest.mark.parametrize("spec", ["nucleotide", "2mer", "bpe16"])
def test_marginals_by_brute_force(spec):
    rng = np.random.default_rng(5)
    windows = rng.choice(np.frombuffer(b"ACGT", np.uint8), (40, 60))
    tokenizer = train_tokenizer(spec, windows)
    p = rng.dirichlet(np.ones(tokenizer.vocab_size), 30)
    places = rng.integers(0, tokenizer.max_token_length, 30)
    codes = rng.integers(0, 4, 30)
    found = base_nats(np.einsum("nv,vlc->nlc", p, letters(tokenizer)), places, codes)
    for i in range(30):
        reach = [v for v in range(5, tokenizer.vocab_size) if len(tokenizer.tokens[v]) > places[i]]
        right = [v for v in reach if tokenizer.tokens[v][places[i]] == "ACGT"[codes[i]]]
        assert found[i] == pytest.approx(-log(p[i, right].sum() / p[i, reach].sum()))
