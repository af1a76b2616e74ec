"""What the prototypes leave: vectors, who stands where, and the histories that neighbours lend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from raylign.errors import DataError
from raylign.recipes.p_genrm.items import Choice, choices

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
VECTORS, ROWS = "prototypes.npz", "rows.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Rows are user-scenarios: a user may have several. All vectors have length 1."""

    prototypes: Float64s  # [K, D]
    vectors: Float64s  # [N, D] of each row's analysis
    members: Int64s  # [N] prototype of each row
    users: tuple[str, ...]  # [N]
    histories: tuple[tuple[Choice, ...], ...]  # [N]
    embedder: str  # identity of what made the vectors

    def nearest(self, vector: Float64s) -> int:
        """argmax_j a_j . e, of equal ones the first."""
        return int(np.argmax(self.prototypes @ vector))

    def neighbours(self, vector: Float64s, count: int, user: str, distinct: bool = False) -> list[int]:
        """The rows of the nearest prototype whose vectors are nearest to this one, the nearest first; none of `user`.

        distinct: at most one row of each user. Fewer than `count` where there are no more.
        """
        rows = np.flatnonzero(self.members == self.nearest(vector))
        ordered = rows[np.argsort(-(self.vectors[rows] @ vector), kind="stable")]
        chosen, seen = list[int](), {user}
        for row in ordered.tolist():
            if len(chosen) < count and self.users[row] not in seen:
                chosen.append(row)
                seen |= {self.users[row]} if distinct else set()
        return chosen

    def save(self, folder: Path) -> None:
        """Write it."""
        np.savez(folder / VECTORS, prototypes=self.prototypes, vectors=self.vectors, members=self.members)
        histories = [[asdict(choice) for choice in history] for history in self.histories]
        rows = {"users": self.users, "histories": histories, "embedder": self.embedder}
        (folder / ROWS).write_bytes(orjson.dumps(rows))

    @classmethod
    def load(cls, folder: Path) -> Store:
        """What `save` wrote. Raises DataError on a folder that holds none."""
        try:
            rows = orjson.loads((folder / ROWS).read_bytes())
            with np.load(folder / VECTORS) as arrays:
                given = {name: arrays[name] for name in ("prototypes", "vectors", "members")}
            histories = tuple(choices(history, str(folder)) for history in rows["histories"])
            return cls(**given, users=tuple(rows["users"]), histories=histories, embedder=rows["embedder"])
        except (OSError, ValueError, KeyError) as cause:
            fix = "name the folder that a Fit of raylign.recipes.p_genrm.Prototypes left"
            raise DataError(f"{folder} holds no prototypes: {cause}; fix: {fix}") from cause


def nearest_of(vectors: Float64s, prototypes: Float64s) -> Int64s:
    """[N] the nearest prototype of each row."""
    return np.asarray(np.argmax(vectors @ prototypes.T, axis=1), np.int64)


def of_length_one(vectors: Sequence[Float64s] | Float64s) -> Float64s:
    """The rows, each divided by its length; zeros stay."""
    array = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(array, axis=-1, keepdims=True)
    return np.asarray(array / np.where(lengths > 0, lengths, 1.0), np.float64)
