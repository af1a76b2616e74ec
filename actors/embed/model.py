"""Vectors from the hidden states of a transformers model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from raylign.actors.embed.kept import KeptEmbedder
from raylign.config.resolve import Run
from raylign.config.schema import Pooling
from raylign.contracts import MODEL, artifact
from raylign.data.score_cache import fingerprint
from raylign.errors import Problem
from raylign.records import Float32s

if TYPE_CHECKING:
    from raylign.models.hidden_states import HiddenStates


class ModelEmbedder(KeptEmbedder):
    """The model is loaded at the first text that no cache knows. How states become a vector: see `HiddenStates`."""

    @dataclass
    class Config(KeptEmbedder.Config):
        """Which model, where it runs, and how its states become one vector."""

        path: str = artifact(MODEL)  # Hugging Face folder or id, or @STAGE
        pooling: Pooling = Pooling.mean
        max_tokens: int = 512  # of a text; what follows is not read, and counted
        dtype: str = "float32"
        device: str = "cpu"  # or cuda, of the process that embeds
        trust_remote_code: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.path:
                raise ValueError("path is empty: name the model whose states are read")
            if self.max_tokens < 1 or self.dtype not in ("float32", "bfloat16"):
                raise ValueError(f"max_tokens={self.max_tokens} must be 1 or more, dtype float32 or bfloat16")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """A model of the machine's own must be there, and remote code be allowed by the run."""
        if config.trust_remote_code and not run.config.model.trust_remote_code:
            why, fix = "is not allowed by this run", "set model.trust_remote_code=true, or leave it out"
            return [Problem(key=f"{key}.trust_remote_code", value="true", why=why, fix=fix)]
        return []

    @cached_property
    def identity(self) -> str:  # type: ignore[override]  # reads every file of the model, once
        """See `Embedder.identity`."""
        config = self.config
        states = f"{config.pooling.value} of {config.dtype} states, {config.max_tokens} tokens"
        return f"{states}, {fingerprint(config.path)}"

    def compute(self, texts: Sequence[str]) -> Float32s:
        """See `KeptEmbedder.compute`."""
        vectors = self._states(texts)
        self.counts.cut, self._states.cut = self.counts.cut + self._states.cut, 0
        return vectors

    @cached_property
    def _states(self) -> HiddenStates:
        from raylign.models.hidden_states import HiddenStates

        config = self.config
        return HiddenStates(
            config.path,
            pooling=config.pooling,
            max_tokens=config.max_tokens,
            dtype=config.dtype,
            device=config.device,
            trust_remote_code=config.trust_remote_code,
        )
