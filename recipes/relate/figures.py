"""What is logged of the ads of a group, and how varied many ads are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.contracts import Measure
from raylign.recipes.relate.semantics import failed_shares
from raylign.recipes.relate.structure import FORMATTED
from raylign.records import Float32s, Group, Trajectory, Value

COUNTED = ("unmatched", "dropped")  # of the judge's spans
JUDGED = ("asked", "calls", "hits", "unreadable", "seconds")


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Of one group, named ``relate/…``: ``compliant`` (mean C), ``failed_<check>``, ``unplaced`` (shares of texts),
    ``fault_tokens``, ``repeated_tokens`` (shares of tokens with a score below 0), ``formatted``, ``distinct_1``,
    ``distinct_2`` (different n-grams of token ids over all of them), ``unmatched_spans``, ``dropped_spans`` (of the
    judge, a text), and ``judge/…``.
    """

    semantic: str
    gate: str
    diversity: str

    def of(self, group: Group) -> dict[str, float]:
        """The figures that were measured."""
        metrics = self._semantic([value.details for value in _values(group, self.semantic)])
        compliant = [value.score for value in _values(group, self.semantic)]
        if compliant:
            metrics["relate/compliant"] = float(np.mean(compliant))
        formatted = [value.details[FORMATTED] for value in _values(group, self.gate)]
        if formatted:
            metrics["relate/formatted"] = float(np.mean(formatted))
        tokens = sum(trajectory.response_length for trajectory in group.trajectories)
        for figure, name in (("fault_tokens", self.semantic), ("repeated_tokens", self.diversity)):
            scores = group.token_scores.get(name)
            if scores is not None and tokens:
                metrics[f"relate/{figure}"] = _below_zero(scores) / tokens
        for n in (1, 2):
            ids = [tuple(call.token_ids.tolist()) for t in group.trajectories for call in t.calls]
            if (share := distinct(ids, n)) is not None:
                metrics[f"relate/distinct_{n}"] = share
        return metrics

    def _semantic(self, details: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        if not details:
            return {}
        metrics = {f"relate/failed_{check}": share for check, share in failed_shares(details).items()}
        metrics["relate/unplaced"] = float(np.mean([bool(of_text["unplaced"]) for of_text in details]))
        for name in COUNTED:
            counts = [of_text[name] for of_text in details if name in of_text]
            if counts:
                metrics[f"relate/{name}_spans"] = float(np.mean(counts))
        if any("judge/asked" in of_text for of_text in details):
            metrics |= {
                f"judge/{name}": sum(of_text.get(f"judge/{name}", 0.0) for of_text in details) for name in JUDGED
            }
        return metrics


class Distinct(Measure):
    """``distinct_<n>`` of each product's ads: different n-grams of characters over all of them, mean over products.

    What stands in every ad (`exempt`) is left out. Table: a row for each product.
    """

    @dataclass
    class Config:
        """Which n, and which column tells products apart."""

        sizes: list[int] = field(default_factory=lambda: [1, 2])
        product: str = "product"  # empty: each prompt is one
        exempt: list[str] = field(default_factory=list)

        def __post_init__(self) -> None:
            if not self.sizes or min(self.sizes) < 1:
                raise ValueError(f"sizes={self.sizes}: name numbers of 1 or more")

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing without a text of that length."""
        rows = self.table(groups)
        names = [f"distinct_{n}" for n in self.config.sizes]
        known = {name: [row[name] for row in rows if row[name] is not None] for name in names}
        return {name: float(np.mean(values)) for name, values in known.items() if values}

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """See `Measure.table`."""
        texts: dict[str, list[str]] = {}
        for group in groups:
            product = str(group.prompt.meta.get(self.config.product, group.prompt.id))
            texts.setdefault(product, []).extend(self._plain(t) for t in group.trajectories if t.calls)
        return [
            {"product": product, "texts": len(said), **{f"distinct_{n}": distinct(said, n) for n in self.config.sizes}}
            for product, said in sorted(texts.items())
        ]

    def _plain(self, trajectory: Trajectory) -> str:
        text = trajectory.text
        for words in self.config.exempt:
            text = text.replace(words, "")
        return text


def distinct(texts: Iterable[Sequence[Any]], n: int) -> float | None:
    """Different n-grams over all n-grams; None where there is none."""
    grams = [tuple(text[start : start + n]) for text in texts for start in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def _values(group: Group, name: str) -> list[Value]:
    rewards = [trajectory.rewards.get(name) for trajectory in group.trajectories]
    return [reward for reward in rewards if isinstance(reward, Value)]


def _below_zero(scores: Sequence[Float32s | None]) -> float:
    return float(sum(int((of_sample < 0).sum()) for of_sample in scores if of_sample is not None))
