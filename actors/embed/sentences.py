"""Vectors from the library sentence-transformers, which is an extra of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from raylign.actors.embed.kept import KeptEmbedder
from raylign.config.resolve import Run
from raylign.contracts import MODEL, artifact
from raylign.data.score_cache import fingerprint
from raylign.errors import ConfigError, Problem
from raylign.records import Float32s

LIBRARY = "sentence-transformers"


class SentenceEmbedder(KeptEmbedder):
    """A model of sentence-transformers with the pooling, prompts and limits that its own files say.

    Raises ConfigError where the library is not installed.
    """

    @dataclass
    class Config(KeptEmbedder.Config):
        """Which model, and where it runs."""

        path: str = artifact(MODEL)  # folder, or id on the hub
        device: str = "cpu"
        batch: int = 32  # texts computed at once

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.path or self.batch < 1:
                raise ValueError(f"path={self.path!r}, batch={self.batch}: name a model, and 1 or more texts")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The library must be there."""
        return _absent(f"{key}._target_")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if problems := _absent("embedder"):
            raise ConfigError(problems)

    @cached_property
    def identity(self) -> str:  # type: ignore[override]  # reads every file of the model, once
        """See `Embedder.identity`."""
        return f"{LIBRARY} {version(LIBRARY)}, {fingerprint(self.config.path, deep=True)}"  # poolings have folders

    def compute(self, texts: Sequence[str]) -> Float32s:
        """See `KeptEmbedder.compute`."""
        limit = self._model.get_max_seq_length()
        if limit:
            self.counts.cut += sum(len(ids) > limit for ids in self._model.tokenizer(list(texts))["input_ids"])
        vectors = self._model.encode(
            list(texts), batch_size=self.config.batch, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(self.config.path, device=self.config.device)


def _absent(key: str) -> list[Problem]:
    if importlib.util.find_spec(LIBRARY.replace("-", "_")) is not None:
        return []
    why = f"needs {LIBRARY}, which is an extra and not installed"
    return [Problem(key=key, value="SentenceEmbedder", why=why, fix=f"pip install 'raylign[{LIBRARY}]'")]
