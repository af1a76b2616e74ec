"""Texts as vectors: what diversity, clusters, neighbours and small classifiers are computed on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields

from raylign.contracts.part import Part
from raylign.records import Float32s


@dataclass(slots=True, kw_only=True)
class EmbedCounts:
    """What embedding came to. Counts add up over calls."""

    asked: int = 0  # texts
    hits: int = 0  # texts whose vector was known: kept from before, or asked for twice in one call
    computed: int = 0
    cut: int = 0  # computed from their beginning alone, being longer than the embedder reads

    def metrics(self, prefix: str) -> dict[str, float]:
        """All of them as numbers, named ``<prefix>/<count>``."""
        return {f"{prefix}/{item.name}": float(getattr(self, item.name)) for item in fields(self)}


class Embedder(Part):
    """Gives every text one vector of length 1, so that a product of two is their cosine.

    The same text has the same vector whatever stands beside it in a call. Called from one thread at a time or from
    several; blocks.

    Example: ``embedder.embed(["a b", "a b", "c"])`` -> [3, D], the first two rows equal
    """

    what = "an embedder"

    def __init__(self, config: object) -> None:
        super().__init__(config)
        self.counts = EmbedCounts()

    @property
    @abstractmethod
    def identity(self) -> str:
        """What the vectors depend on beside the text: settings, and the content of a model. Vectors of two embedders
        may be compared only where this is the same, so what is fitted on vectors keeps it.
        """

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Float32s:
        """[N, D] a vector for each text, in order. Raises JudgeUnavailable where a served model gives none."""
