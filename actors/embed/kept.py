"""Embedders whose vectors cost more than reading them back: each text is computed once."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raylign.actors.embed.vectors import VectorStore
from raylign.contracts import Embedder
from raylign.errors import RewardError
from raylign.records import Float32s

SHOWN = 60  # letters of a text in messages


class KeptEmbedder(Embedder):
    """Computes what is in no cache, and keeps it: in memory and below the cache folder, by identity and text."""

    @dataclass
    class Config:
        """Where vectors are kept, and how much room they have."""

        cache_dir: str = ""  # ${run.cache_dir} names the run's; empty: $XDG_CACHE_HOME/raylign or ~/.cache/raylign
        cache_mb: int = 512  # of vectors in memory, and again on disk: the oldest leave first; 0: none is kept

        def __post_init__(self) -> None:
            if self.cache_mb < 0:
                raise ValueError(f"cache_mb={self.cache_mb} must be 0 or more")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._store: VectorStore | None = None

    def embed(self, texts: Sequence[str]) -> Float32s:
        """See `Embedder.embed`. Raises RewardError on a vector without a direction: not finite, or all zero."""
        with self._lock:
            return self._embed(texts)

    @abstractmethod
    def compute(self, texts: Sequence[str]) -> Float32s:
        """[N, D] vectors of any length, of texts that all differ. Counts those that were cut."""

    def _embed(self, texts: Sequence[str]) -> Float32s:
        store = self._kept()
        different = list(dict.fromkeys(texts))
        found = dict(zip(different, store.find(different) if store else [None] * len(different), strict=True))
        missing = [text for text, vector in found.items() if vector is None]
        if missing:
            fresh = _of_length_one(self.compute(missing), missing, self.identity)
            if store:
                store.store(missing, fresh)
            found |= dict(zip(missing, fresh, strict=True))
        self.counts.asked += len(texts)
        self.counts.computed += len(missing)
        self.counts.hits += len(texts) - len(missing)
        vectors = [found[text] for text in texts]
        return np.array(vectors, np.float32) if vectors else np.zeros((0, 0), np.float32)

    def _kept(self) -> VectorStore | None:
        if self._store is None and self.config.cache_mb:
            self._store = VectorStore(
                embeddings_below(self.config.cache_dir), self.identity, self.config.cache_mb << 20
            )
        return self._store


def embeddings_below(folder: str) -> Path:
    """Where vectors are kept: below the named folder, or below the user's own cache."""
    if folder:
        return Path(folder).expanduser() / "embeddings"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "raylign" / "embeddings"


def _of_length_one(vectors: Float32s, texts: Sequence[str], name: str) -> Float32s:
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    for text, length in zip(texts, lengths, strict=True):
        if not np.isfinite(length) or length == 0:
            raise RewardError(f"{name} gave {text[:SHOWN]!r} a vector of length {length:g}, which has no direction")
    return np.asarray(wide / lengths[:, None], np.float32)
