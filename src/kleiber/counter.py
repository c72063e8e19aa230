"""Counter-based random numbers: ``value = f(seed, stream, index)``, with no state anywhere.

Sample i of a corpus, the masks of row i, the bootstrap draw k: each is a pure function of three integers, so that
resuming is an integer and results do not depend on workers, order or machine. The generator is Philox4x64-10
(Salmon et al. 2011, doi:10.1145/2063384.2063405) as numpy has it, compiled so that kernels can call it a hundred
million times a second. Rejected: ``numpy.random.Generator`` seeded per index, right but 10 µs a seed; and hashing
such as splitmix64, fast but without published tests of independence between streams.

The contract, which is also the test: draw n of (seed, stream, index) is the n-th raw output of
``numpy.random.Philox(key=[seed, stream], counter=[0, index, 0, 0])``.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

__all__ = ["bounded", "draw", "draws", "permutation", "stream_id", "uniform", "uniforms"]

_M0 = np.uint64(0xD2E7470EE14C6C93)
_M1 = np.uint64(0xCA5A826395121157)
_W0 = np.uint64(0x9E3779B97F4A7C15)
_W1 = np.uint64(0xBB67AE8584CAA73B)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_11 = np.uint64(11)
_0 = np.uint64(0)
_1 = np.uint64(1)
_ULP = 2.0**-53


def stream_id(name: str) -> int:
    """Return the 64-bit stream number of a name, e.g. ``"masks"``: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


@njit(inline="always", cache=True)
def _mulhilo(a, b):
    """Return the high and low halves of the 128-bit product of two uint64."""
    a_lo, a_hi = a & _LOW, a >> _32
    b_lo, b_hi = b & _LOW, b >> _32
    low = a_lo * b_lo
    mid = a_hi * b_lo + (low >> _32)
    mid2 = a_lo * b_hi + (mid & _LOW)
    return a_hi * b_hi + (mid >> _32) + (mid2 >> _32), a * b


@njit(cache=True, nogil=True)
def _block(seed, stream, index, number):
    """Return the four words of block `number` (from 1) of (seed, stream, index)."""
    c0, c1, c2, c3 = uint64(number), uint64(index), _0, _0
    k0, k1 = uint64(seed), uint64(stream)
    for _ in range(10):
        h0, l0 = _mulhilo(_M0, c0)
        h1, l1 = _mulhilo(_M1, c2)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += _W0
        k1 += _W1
    return c0, c1, c2, c3


@njit(cache=True, nogil=True)
def draw(seed, stream, index, n):
    """Return draw `n` (from 0) of (seed, stream, index) as uint64; callable from compiled code."""
    n = uint64(n)
    w0, w1, w2, w3 = _block(seed, stream, index, (n >> uint64(2)) + _1)
    lane = n & uint64(3)
    if lane == 0:
        return w0
    if lane == 1:
        return w1
    if lane == 2:
        return w2
    return w3


@njit(cache=True, nogil=True)
def uniform(seed, stream, index, n):
    """Return draw `n` as a float64 in [0, 1) with 53 random bits, as numpy's generators make it."""
    return float(draw(seed, stream, index, n) >> _11) * _ULP


@njit(cache=True, nogil=True)
def bounded(seed, stream, index, n, bound):
    """Return a uint64 in [0, bound) without modulo bias, and the number of the next unused draw.

    Lemire's multiply-and-reject (2019, doi:10.1145/3230636): `bound` ≥ 1; starts at draw `n` and takes one more
    for each rejection, which happens with probability < bound / 2^64.
    """
    bound = uint64(bound)
    high, low = _mulhilo(draw(seed, stream, index, n), bound)
    n = uint64(n) + _1
    if low < bound:
        threshold = (_0 - bound) % bound
        while low < threshold:
            high, low = _mulhilo(draw(seed, stream, index, n), bound)
            n += _1
    return high, n


@njit(cache=True, nogil=True)
def _fill(seed, stream, index, out):
    n = out.size
    for b in range((n + 3) // 4):
        w0, w1, w2, w3 = _block(seed, stream, index, b + 1)
        i = 4 * b
        out[i] = w0
        if i + 1 < n:
            out[i + 1] = w1
        if i + 2 < n:
            out[i + 2] = w2
        if i + 3 < n:
            out[i + 3] = w3


@njit(cache=True, nogil=True)
def _shuffle(seed, stream, index, out):
    n = _0
    for i in range(out.size - 1, 0, -1):
        j, n = bounded(seed, stream, index, n, i + 1)
        out[i], out[j] = out[j], out[i]


def draws(seed: int, stream: int, index: int, n: int) -> NDArray[np.uint64]:
    """Return the first `n` draws of (seed, stream, index), shape (n,)."""
    out = np.empty(n, np.uint64)
    _fill(np.uint64(seed), np.uint64(stream), np.uint64(index), out)
    return out


def uniforms(seed: int, stream: int, index: int, n: int) -> NDArray[np.float64]:
    """Return the first `n` draws as floats in [0, 1), shape (n,)."""
    return np.asarray((draws(seed, stream, index, n) >> _11) * _ULP, np.float64)


def permutation(seed: int, stream: int, index: int, n: int) -> NDArray[np.int64]:
    """Return a uniformly random order of 0 … n − 1 (Fisher-Yates on bounded draws), shape (n,)."""
    out = np.arange(n)
    _shuffle(np.uint64(seed), np.uint64(stream), np.uint64(index), out)
    return out
