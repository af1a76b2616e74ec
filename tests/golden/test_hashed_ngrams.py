"""Hashed n-grams against their definition, in plain integers modulo 2^64 and NumPy float64."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from raylign.actors.embed import HashedNgrams

M = 2**64
TEXTS = [
    "",
    " ",
    "a",
    "The cat sat.",
    "the  CAT\tsat .",
    "x" * 300,
    "él 你好\n- 3.5e2, \U0001f600!",
    "\ud83d",
    "no no no",
]


def mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) % M
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % M
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % M
    return value ^ (value >> 31)


def reference(text: str, characters: list[int], words: list[int], buckets: int, lowercase: bool) -> np.ndarray:
    text = " ".join((text.lower() if lowercase else text).split())
    counts: Counter[int] = Counter()
    letters = [ord(letter) for letter in f" {text} "]
    spoken = [
        int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        for word in re.findall(r"\w+|[^\w\s]", text)
    ]
    for kind, units, sizes in ((1, letters, characters), (2, spoken, words)):
        for n in range(sizes[0], sizes[1] + 1) if sizes else ():
            for start in range(len(units) - n + 1):
                value = mixed(kind * 2**32 + n)
                for unit in units[start : start + n]:
                    value = mixed(value ^ unit)
                counts[value % buckets] += 1
    vector = np.zeros(buckets, np.float64)
    for bucket, count in (counts or {0: 1}).items():
        vector[bucket] = 1 + np.log(count)
    return vector / np.sqrt((vector**2).sum())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"characters": [1, 2], "words": [], "dimensions": 64},
        {"characters": [], "words": [1, 3], "dimensions": 33, "lowercase": False},
    ],
)
def test_vectors_are_what_the_definition_says(settings: dict[str, Any]) -> None:
    config = HashedNgrams.Config(**settings)
    vectors = HashedNgrams(config).embed(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), config.dimensions)
    arguments = (config.characters, config.words, config.dimensions, config.lowercase)
    np.testing.assert_allclose(vectors, [reference(text, *arguments) for text in TEXTS], atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_text_has_one_vector_whatever_stands_beside_it_and_in_every_process() -> None:
    embedder = HashedNgrams(HashedNgrams.Config())
    together = embedder.embed(TEXTS)
    np.testing.assert_array_equal(together, np.concatenate([embedder.embed([text]) for text in TEXTS]))
    np.testing.assert_array_equal(together, embedder.embed(TEXTS[::-1])[::-1])
    cosines = together @ together.T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-6)
    assert cosines[3, 4] > 0.75 > 0.1 > cosines[3, 5]
    words = (
        "import hashlib; from raylign.actors.embed import HashedNgrams as H; v = H(H.Config()).embed(['The cat sat.'])"
    )
    words += "; print(hashlib.sha256(v.tobytes()).hexdigest())"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(together[3:4].tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"characters": [3]}, r"characters=\[3\] must be \[shortest, longest\]"),
        ({"words": [2, 1]}, r"words=\[2, 1\]"),
        ({"characters": [], "words": []}, "every text would be the same"),
        ({"dimensions": 1}, "dimensions=1"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HashedNgrams.Config(**settings)
