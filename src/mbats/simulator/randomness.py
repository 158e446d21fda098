"""Random numbers that are a pure function of what they are for, so that no request can change another's prices.

`generator` gives a numpy generator for a named stream of a block; `uniforms` gives one number for each index, where a
generator for every single minute would be too slow. The same numpy version draws the same numbers.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.random import Generator, Philox, SeedSequence
from numpy.typing import NDArray

from mbats.market import Floats

Words = NDArray[np.uint64]

SEED_MASK = 2**64 - 1  # any whole number is a seed, a negative one too


def generator(seed: int, stream: str, *block: int) -> Generator:
    """The generator of one stream, for instance ("EUR_USD", 1234)."""
    return Generator(Philox(SeedSequence([seed & SEED_MASK, zlib.crc32(stream.encode()), *block])))


def words(seed: int, stream: str, index: NDArray[np.int64]) -> Words:
    """A random 64-bit word for each index: the output function of SplitMix64 (Steele, Lea and Flood, 2014), twice."""
    key = np.uint64(seed & SEED_MASK) ^ np.uint64(zlib.crc32(stream.encode()) << 32)
    return _mix(_mix(index.astype(np.uint64)) + key)


def uniforms(seed: int, stream: str, index: NDArray[np.int64]) -> Floats:
    """A random number in [0, 1) for each index."""
    return np.asarray((words(seed, stream, index) >> np.uint64(11)) * 2.0**-53)


def _mix(state: Words) -> Words:
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
