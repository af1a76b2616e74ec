"""Part E of RELATE's experiment: a model of votes on real ads, tried on source ads that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.experiments._relate_credit import japanese
from benchmarks.experiments.report import Claim
from raylign.contracts import PlacedRow
from raylign.recipes.relate import VotedPairs
from raylign.testing import prompt

FOLDS, LEAST = 5, 6
Row = Mapping[str, str]


def votes(_: Path) -> list[Claim]:
    """Five folds by source ad, so that no ad of a test is known from training."""
    rows = japanese()
    sources = sorted({row["source_ad1"] for row in rows})
    fold_of = dict(zip(sources, np.random.default_rng(0).permutation(len(sources)) % FOLDS, strict=True))
    right, gains = list[float](), list[float]()
    for fold in range(FOLDS):
        seen = [row for row in rows if fold_of[row["source_ad1"]] != fold]
        held_out = [row for row in rows if fold_of[row["source_ad1"]] == fold]
        model = VotedPairs(VotedPairs.Config(least=LEAST))
        model.fit([PlacedRow(f"row {row['id']}", row) for row in seen], seed=0)
        right += _right(model, held_out)
        gains += _gains(model, held_out)
    accuracy, error = float(np.mean(right)), 0.5 / len(right) ** 0.5
    note = (
        f"above .5 by two standard errors; {accuracy:.3f} of {len(right)} pairs, the digest wishes for .60; real votes"
    )
    chosen = float(np.mean(gains)) - 2 * float(np.std(gains, ddof=1)) / len(gains) ** 0.5
    told = (
        f"above 0 by two standard errors; mean {np.mean(gains):+.3f} of the votes, {len(gains)} source ads; real votes"
    )
    return [
        Claim(
            name="E/held-out pairs: accuracy less two errors",
            value=accuracy - 2 * error,
            threshold=0.5,
            relation=">",
            note=note,
        ),
        Claim(name="E/held-out pairs: accuracy", value=accuracy, note="digest .60, not calibrated"),
        Claim(
            name="E/share of votes, best by the model - random choice",
            value=chosen,
            threshold=0,
            relation=">",
            note=told,
        ),
    ]


def _right(model: VotedPairs, rows: Sequence[Row]) -> list[float]:
    """Of pairs with enough votes that are not tied: whether the preferred ad has the higher score."""
    verdicts = []
    for row in rows:
        first, second = _counts(row)
        if first + second >= LEAST and first != second:
            left, right = model.scores(prompt(), [row["ad1"], row["ad2"]])
            verdicts.append(float((left > right) == (first > second)))
    return verdicts


def _gains(model: VotedPairs, rows: Sequence[Row]) -> list[float]:
    """Of each source ad with several rewritings: votes for the one that the model takes, less their mean. A rewriting's
    votes are its share of those that decided between it and the source.
    """
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        if sum(_counts(row)) >= LEAST:
            by_source.setdefault(row["source_ad1"], []).append(row)
    gains = []
    for candidates in by_source.values():
        if len(candidates) > 1:
            shares = [_counts(row)[1] / sum(_counts(row)) for row in candidates]
            best = int(np.argmax(model.scores(prompt(), [row["ad2"] for row in candidates])))
            gains.append(shares[best] - float(np.mean(shares)))
    return gains


def _counts(row: Row) -> tuple[float, float]:
    return float(row["count.preference_ad1"]), float(row["count.preference_ad2"])
