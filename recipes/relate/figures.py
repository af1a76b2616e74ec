"""What is logged of the ads of a group, and how varied many ads are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.chat.thoughts import answer_text
from raylign.config.resolve import Run
from raylign.contracts import Measure
from raylign.errors import Problem
from raylign.recipes.relate.phrases import product_of
from raylign.recipes.relate.semantics import failed_shares
from raylign.recipes.relate.structure import FORMATTED, exempt_problems
from raylign.records import Float32s, Group, Value

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
    diversity: str = ""  # name of the scores by token; empty: none

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


class AdFigures(Measure):
    """What `GroupFigures` tells of a group, mean over groups; and ``distinct_<n>``: different n-grams of characters
    over all ads of a product, mean over products, without what stands in every ad. Table: a row for each product.
    """

    @dataclass
    class Config:
        """What is told apart, and by which rewards."""

        sizes: list[int] = field(default_factory=lambda: [1, 2])
        product: str = "product"  # empty: each prompt is one
        exempt: list[str] = field(default_factory=list)  # what stands in every ad
        semantic: str = "semantic"
        gate: str = "structure"

        def __post_init__(self) -> None:
            if not self.sizes or min(self.sizes) < 1:
                raise ValueError(f"sizes={self.sizes}: name numbers of 1 or more")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What stands in every ad is no figure of one."""
        return [*super().problems(key, config, run), *exempt_problems(key, config.exempt, config.gate, run)]

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing of what was not measured."""
        of_groups = [GroupFigures(self.config.semantic, self.config.gate).of(group) for group in groups]
        names = dict.fromkeys(name for figures in of_groups for name in figures)
        means = {name: float(np.mean([of[name] for of in of_groups if name in of])) for name in names}
        rows = self.table(groups)
        for name in (f"distinct_{n}" for n in self.config.sizes):
            known = [row[name] for row in rows if row[name] is not None]
            means |= {name: float(np.mean(known))} if known else {}
        return {name.removeprefix("relate/"): mean for name, mean in means.items()}

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """See `Measure.table`. Raises DataError on a prompt without the column that is named."""
        texts: dict[str, list[str]] = {}
        for group in groups:
            product = product_of(group.prompt, self.config.product)
            texts.setdefault(product, []).extend(
                self._plain(answer_text(group.prompt, t)) for t in group.trajectories if t.calls
            )
        return [
            {"product": product, "texts": len(said), **{f"distinct_{n}": distinct(said, n) for n in self.config.sizes}}
            for product, said in sorted(texts.items())
        ]

    def _plain(self, text: str) -> str:
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
