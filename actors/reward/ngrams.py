"""A text classifier: hashed n-grams of bytes, and logistic regression on them, in NumPy."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from raylign.contracts import PlacedRow, ScoringEstimator
from raylign.data.columns import Columns
from raylign.errors import DataError
from raylign.records import Message, Prompt

Float64s = NDArray[np.float64]
SETTINGS, WEIGHTS = "settings.json", "weights.npz"


class NgramClassifier(ScoringEstimator):
    """The chance that a response is of the good kind, by the n-grams in it.

    A row is good where the number in its column `label` is at least `threshold`; rows without that number are not
    learned from. Weights are those of logistic regression with an L2 penalty, found by Newton's method on the rows'
    normalised counts: the same rows give the same weights, whatever the seed.
    """

    @dataclass
    class Config:
        """What is read of a row, and how large the model is."""

        text: str = "target"  # the column that holds the response: a text, or an assistant's message
        label: str = "meta.generated.score"  # a dot enters an object
        threshold: float = 0.5
        longest: int = 3  # bytes of an n-gram; shorter ones count too
        buckets: int = 512  # n-grams share their weights by hash
        l2: float = 1e-3

        def __post_init__(self) -> None:
            for name in ("longest", "buckets", "l2"):
                if getattr(self, name) <= 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it above 0")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._weights: Float64s | None = None  # [buckets + 1], the last is the bias

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> dict[str, float]:
        """Find the weights. Raises DataError where there are not rows of both kinds."""
        labelled = [(self._text(row), label) for row in rows if (label := self._label(row)) is not None]
        good = np.array([label >= self.config.threshold for _, label in labelled], np.float64)
        if not 0 < good.sum() < len(good):
            kind = "has a number there" if not len(good) else "is good" if not good.sum() else "is of the other kind"
            raise DataError(
                f"none of {len(good) or len(rows)} rows {kind} ({self.config.label} >= {self.config.threshold:g}); "
                "fix: set label and threshold so that both kinds are there, or let the set keep both"
            )
        features = self.features([text for text, _ in labelled])
        self._weights = _newton(features, good, self.config.l2)
        right = (_sigmoid(features @ self._weights) >= 0.5) == (good == 1)
        return {"accuracy": float(right.mean()), "good": float(good.mean()), "labelled": float(len(good))}

    def scores(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """The chance of each, between 0 and 1."""
        chances: list[float] = _sigmoid(self.features(responses) @ self._known()).tolist()
        return chances

    def save(self, folder: Path) -> None:
        """Weights, and the settings that they are good for."""
        np.savez(folder / WEIGHTS, weights=self._known())
        (folder / SETTINGS).write_bytes(orjson.dumps(asdict(self.config)))

    def load(self, folder: Path) -> None:
        """Raises DataError on other settings, and on a folder that holds none."""
        try:
            known = orjson.loads((folder / SETTINGS).read_bytes())
            with np.load(folder / WEIGHTS) as arrays:
                weights: Float64s = arrays["weights"]
        except (OSError, ValueError, KeyError) as cause:
            raise DataError(
                f"{folder} holds no fitted classifier: {cause}; fix: name the folder that Fit left"
            ) from cause
        now: dict[str, Any] = asdict(self.config)
        if changed := [f"{name}={known.get(name)}, now {now[name]}" for name in now if known.get(name) != now[name]]:
            raise DataError(f"{folder} was fitted with {'; '.join(changed)}; fix: give both places the same settings")
        self._weights = weights

    def features(self, texts: Sequence[str]) -> Float64s:
        """[N, buckets + 1] counts of the n-grams of each text, of length 1, and a constant."""
        counts = np.zeros((len(texts), self.config.buckets + 1))
        for row, text in enumerate(texts):
            content, buckets = text.encode("utf-8", "replace"), self.config.buckets
            for size in range(1, self.config.longest + 1):
                grams = (content[start : start + size] for start in range(len(content) - size + 1))
                numbers = np.fromiter((zlib.crc32(gram) % buckets for gram in grams), np.int64)
                counts[row, :buckets] += np.bincount(numbers, minlength=buckets)
        norms = np.linalg.norm(counts, axis=1, keepdims=True)
        counts /= np.where(norms > 0, norms, 1.0)
        counts[:, -1] = 1.0
        return counts

    def _known(self) -> Float64s:
        if self._weights is None:
            raise ValueError("a classifier that was neither fitted nor loaded")
        return self._weights

    def _text(self, row: PlacedRow) -> str:
        value: Message | str | None = Columns(row.columns, row.place, "", "").at(self.config.text)
        text = value.get("content") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise DataError(f"{row.place}: no text at {self.config.text}, but {str(value)[:60]!r}")
        return text

    def _label(self, row: PlacedRow) -> float | None:
        value = Columns(row.columns, row.place, "", "").at(self.config.label)
        if value is None:
            return None
        if isinstance(value, bool | int | float):
            return float(value)
        raise DataError(f"{row.place}: {self.config.label} is no number, but {str(value)[:60]!r}")


def _newton(features: Float64s, good: Float64s, l2: float) -> Float64s:
    """Weights of least penalised log-loss; the constant's is free."""
    weights, penalty = np.zeros(features.shape[1]), np.full(features.shape[1], l2)
    penalty[-1] = 1e-9
    for _ in range(100):
        chance = _sigmoid(features @ weights)
        slope = features.T @ (chance - good) / len(good) + penalty * weights
        curve = (features * (chance * (1 - chance) / len(good))[:, None]).T @ features + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _sigmoid(values: Float64s) -> Float64s:
    result: Float64s = 1.0 / (1.0 + np.exp(-np.clip(values, -500, 500)))
    return result
