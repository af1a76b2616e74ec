"""What a text has in it, as numbers of buckets: character n-grams, present or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raylign.actors.embed.ngrams import CHARACTERS, ngram_hashes

Buckets = NDArray[np.int64]  # in rising order, each once


def presence(text: str, longest: int, buckets: int) -> Buckets:
    """The buckets of all n-grams of 1 to `longest` characters."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = [np.zeros(0, np.uint64), *ngram_hashes(codes, CHARACTERS, (1, longest))]
    return np.unique(np.concatenate(hashes) % np.uint64(buckets)).astype(np.int64)


def shared(left: Buckets, right: Buckets) -> Buckets:
    """What both texts have."""
    return np.intersect1d(left, right, assume_unique=True)
