"""Prototypes of users: K-means over what chains say of them, then the pairwise refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import Embedder, Estimator, PlacedRow
from raylign.errors import DataError
from raylign.recipes.p_genrm.choices import FORM
from raylign.recipes.p_genrm.form import Form
from raylign.recipes.p_genrm.items import Item, item_of, refuse_held_out
from raylign.recipes.p_genrm.refine import Pair, Refinement, refined
from raylign.recipes.p_genrm.store import Float64s, Int64s, Store, nearest_of, of_length_one


class Prototypes(Estimator):
    """Fitted to chains about the items of users to train on (a library, leave-one-out): one row, one vector.

    The vector is that of the analysis alone, never of the scores. Metrics: ``users``, ``unread`` (chains that are not
    in form or have no analysis), ``smallest`` and ``largest`` cluster, ``drift`` and ``drift_max`` (|a_j - mu_j|),
    ``moved`` (share of rows that the refinement gave to another prototype), ``agreement`` and ``agreement_before``
    (share of pairs whose chosen response has the higher product, with z_t and with the centroid).
    """

    @dataclass
    class Config:
        """How many, by which vectors, and how they are refined."""

        clusters: int = 50  # k; the released script runs 100
        restarts: int = 10  # of K-means
        form: Node = node(Form, FORM)
        embedder: Node = node(Embedder, "raylign.actors.embed.HashedNgrams")
        refine: Refinement = field(default_factory=Refinement)

        def __post_init__(self) -> None:
            if self.clusters < 1 or self.restarts < 1:
                name = "clusters" if self.clusters < 1 else "restarts"
                raise ValueError(f"{name} is {getattr(self, name)}, set it to 1 or more")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._form: Form = build(Form, config.form, "estimator.form")
        self._embedder: Embedder = build(Embedder, config.embedder, "estimator.embedder")
        self.store: Store | None = None

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> dict[str, float]:
        """See `Estimator.fit`. Raises DataError on a held-out user's row, and with fewer rows than clusters."""
        items = [(row.place, item_of(_meta(row), row.place)) for row in rows]
        refuse_held_out(items, "the prototypes")
        analyses = [self._analysis(row, item) for row, (_, item) in zip(rows, items, strict=True)]
        kept = [index for index, analysis in enumerate(analyses) if analysis]
        different = len({analyses[index] for index in kept})
        if different < self.config.clusters:
            why = (
                f"{len(kept)} chains with {different} different analyses ({len(rows) - len(kept)} without any) make no"
            )
            fix = f"set estimator.clusters={max(different // 2, 1)}, or a larger library"
            raise DataError(f"{why} {self.config.clusters} clusters; fix: {fix}")
        chosen = [items[index][1] for index in kept]
        vectors = of_length_one(np.asarray(self._embedder.embed([analyses[index] for index in kept]), np.float64))
        first, centres = clustered(vectors, self.config.clusters, self.config.restarts, seed)
        means = np.stack([vectors[first == j].mean(axis=0) for j in range(len(centres))])
        pairs = self._pairs(chosen)
        known = [[pair for pair, at in zip(pairs, first, strict=True) if pair and at == j] for j in range(len(centres))]
        prototypes, model = refined(centres, means, known, self.config.refine, seed)
        self.store = Store(
            prototypes=prototypes,
            vectors=vectors,
            members=nearest_of(vectors, prototypes),
            users=tuple(item.user for item in chosen),
            histories=tuple(item.history for item in chosen),
            embedder=self._embedder.identity,
        )
        drift = np.linalg.norm(prototypes - means, axis=1)
        sizes = np.bincount(self.store.members, minlength=len(prototypes))
        return {
            "users": float(len(set(self.store.users))),
            "unread": float(len(rows) - len(kept)),
            "cut": float(self._embedder.counts.cut),
            "smallest": float(sizes.min()),
            "largest": float(sizes.max()),
            "drift": float(drift.mean()),
            "drift_max": float(drift.max()),
            "moved": float(np.mean(self.store.members != first)),
            **agreement(known, centres, prototypes, model),
        }

    def save(self, folder: Path) -> None:
        """See `Estimator.save`."""
        if self.store is None:
            raise ValueError("prototypes that were neither fitted nor loaded")
        self.store.save(folder)

    def load(self, folder: Path) -> None:
        """See `Estimator.load`."""
        self.store = Store.load(folder)
        if self.store.embedder != self._embedder.identity:
            why = f"was fitted on vectors of {self.store.embedder}, now {self._embedder.identity}"
            raise DataError(f"{folder} {why}; fix: give both places the same embedder")

    def _analysis(self, row: PlacedRow, item: Item) -> str:
        chain = self._form.read(str(row.columns.get("target") or ""), len(item.responses))
        return chain.analysis if chain else ""

    def _pairs(self, items: Sequence[Item]) -> list[Pair | None]:
        """Of each item its pair as vectors; None of one that ranks more than two."""
        every = [text for item in items for text in (item.query, *item.responses)]
        every += [text for item in items for one in item.history for text in (one.query, one.chosen, one.rejected)]
        texts = list(dict.fromkeys(every))
        embedded = np.asarray(self._embedder.embed(texts), np.float64)
        known = dict(zip(texts, of_length_one(embedded), strict=True))

        def pair(item: Item) -> Pair | None:
            if len(item.responses) != 2:
                return None
            chosen, rejected = item.responses[item.best], item.responses[1 - item.best]
            past = tuple((known[one.query], known[one.chosen] - known[one.rejected]) for one in item.history)
            return Pair(query=known[item.query], difference=known[chosen] - known[rejected], past=past)

        return [pair(item) for item in items]


def clustered(vectors: Float64s, clusters: int, restarts: int, seed: int) -> tuple[Int64s, Float64s]:
    """[N] cluster of each row by K-means, [K, D] centroids of length 1."""
    from sklearn.cluster import KMeans

    fitted = KMeans(clusters, n_init=restarts, random_state=seed % 2**32).fit(vectors)
    return np.asarray(fitted.labels_, np.int64), of_length_one(np.asarray(fitted.cluster_centers_, np.float64))


def agreement(
    members: Sequence[Sequence[Pair]], centres: Float64s, prototypes: Float64s, model: Any
) -> dict[str, float]:
    """Shares of the pairs that are judged as their users chose, after the refinement and by the centroids alone."""
    import torch

    after, before = list[bool](), list[bool]()
    for j, own in enumerate(members):
        if own:
            with torch.no_grad():
                after += (model(own, torch.from_numpy(prototypes[j].copy())) > 0).tolist()
            before += [bool(centres[j] @ pair.difference > 0) for pair in own]
    if not after:
        return {}
    return {"agreement": float(np.mean(after)), "agreement_before": float(np.mean(before))}


def _meta(row: PlacedRow) -> dict[str, Any]:
    meta = row.columns.get("meta")
    return dict(meta) if isinstance(meta, dict) else {}
