"""Hashed n-grams of characters and words: vectors without a model, the same in every process and on every machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from raylign.contracts import Embedder
from raylign.records import Float32s

Hashes = NDArray[np.uint64]
CHARACTERS, WORDS = 1, 2  # kinds of n-grams, apart in the hash
WORD = re.compile(r"\w+|[^\w\s]")
GOLDEN, FIRST, SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class HashedNgrams(Embedder):
    """Counts of n-grams in `dimensions` buckets, as weights 1 + ln(count), divided by their length.

    The text is read in lower case (`lowercase`), with one space for any white space and one at both ends. An n-gram of
    units u_1 .. u_n has the hash h_n, h_0 = mix(2^32 kind + n), h_i = mix(h_{i-1} xor u_i); units are code points
    (kind 1), or words and single signs (kind 2), whose numbers are the first 8 bytes of their BLAKE2b, lowest first.
    mix is SplitMix64's, the bucket is h_n modulo `dimensions`. A text without any n-gram has bucket 0 alone.
    """

    @dataclass
    class Config:
        """Which n-grams, as [shortest, longest], and how many buckets they share."""

        characters: list[int] = field(default_factory=lambda: [3, 5])  # empty: none
        words: list[int] = field(default_factory=lambda: [1, 2])  # empty: none
        dimensions: int = 2048
        lowercase: bool = True

        def __post_init__(self) -> None:
            for name in ("characters", "words"):
                sizes = getattr(self, name)
                if sizes and not (len(sizes) == 2 and 1 <= sizes[0] <= sizes[1]):
                    raise ValueError(f"{name}={sizes} must be [shortest, longest] or empty")
            if not (self.characters or self.words):
                raise ValueError("characters and words are both empty, so that every text would be the same")
            if self.dimensions < 2:
                raise ValueError(f"dimensions={self.dimensions} must be 2 or more")

    config: Config

    @property
    def identity(self) -> str:
        """See `Embedder.identity`."""
        return f"hashed n-grams {asdict(self.config)}"

    def embed(self, texts: Sequence[str]) -> Float32s:
        """See `Embedder.embed`."""
        vectors = np.zeros((len(texts), self.config.dimensions), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
        self.counts.asked += len(texts)
        self.counts.computed += len(texts)
        return vectors

    def _vector(self, text: str) -> NDArray[np.float64]:
        config = self.config
        text = " ".join((text.lower() if config.lowercase else text).split())
        hashes: list[Hashes] = []
        if config.characters:
            codes = np.array([ord(letter) for letter in f" {text} "], np.uint64)
            hashes += ngram_hashes(codes, CHARACTERS, config.characters)
        if config.words:
            codes = np.array([word_number(word) for word in WORD.findall(text)], np.uint64)
            hashes += ngram_hashes(codes, WORDS, config.words)
        found = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        buckets = (found % np.uint64(config.dimensions)).astype(np.int64)
        counts = np.bincount(buckets if len(buckets) else np.zeros(1, np.int64), minlength=config.dimensions)
        weights = np.where(counts > 0, 1.0 + np.log(np.maximum(counts, 1)), 0.0)
        return np.asarray(weights / np.linalg.norm(weights), np.float64)


def ngram_hashes(units: Hashes, kind: int, sizes: Sequence[int]) -> list[Hashes]:
    """The hashes of all n-grams of these units, an array for each n between the two sizes that fits."""
    hashes = []
    for n in range(sizes[0], min(sizes[1], len(units)) + 1):
        windows = sliding_window_view(units, n)
        value = np.full(len(windows), (kind << 32) + n, np.uint64)
        value = mix(value)
        for column in windows.T:
            value = mix(value ^ column)
        hashes.append(value)
    return hashes


def mix(value: Hashes) -> Hashes:
    """One step of SplitMix64, on every entry; arithmetic modulo 2^64."""
    value = value + GOLDEN
    value = (value ^ (value >> np.uint64(30))) * FIRST
    value = (value ^ (value >> np.uint64(27))) * SECOND
    return np.asarray(value ^ (value >> np.uint64(31)), np.uint64)


def word_number(word: str) -> int:
    """64 bits of a word's hash."""
    content = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
