"""Which of two texts people prefer, by their votes: a stand-in for a conversion model where there are no logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import torch
from torch.nn import functional

from raylign.contracts import PlacedRow, ScoringEstimator
from raylign.data.columns import Columns
from raylign.errors import DataError
from raylign.recipes.relate.features import presence
from raylign.records import Prompt

SETTINGS, WEIGHTS = "settings.json", "weights.npz"


class VotedPairs(ScoringEstimator):
    """u(y) = w phi(y) of a text, phi its character n-grams, so that y beats y' with chance sigmoid(u(y) - u(y')).

    Minimises - sum [v log sigmoid(d) + v' log sigmoid(-d)] + l2 / 2 |w|^2, d = u(y) - u(y'), over pairs with v votes
    for y and v' for y'. The same rows give the same weights, whatever the seed.
    """

    @dataclass
    class Config:
        """Columns of both texts and their votes, and how large the model is."""

        texts: tuple[str, str] = ("ad1", "ad2")
        votes: tuple[str, str] = ("count.preference_ad1", "count.preference_ad2")
        least: int = 6  # votes for one or the other; pairs with fewer are left out
        longest: int = 3  # characters of an n-gram; shorter ones count too
        buckets: int = 8192
        l2: float = 10.0

        def __post_init__(self) -> None:
            if min(self.least, self.longest, self.buckets, self.l2) <= 0:
                raise ValueError("least, longest, buckets and l2 must be above 0")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._weights: np.ndarray | None = None  # [buckets]

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> dict[str, float]:
        """Find the weights; ``pairs``, ``too_few`` (pairs left out with fewer votes than `least`), and ``accuracy`` on
        those that are not tied. Raises DataError without a pair, and on votes and texts that are none.
        """
        pairs = [self._pair(row) for row in rows]
        counted = [(texts, votes) for texts, votes in pairs if sum(votes) >= self.config.least]
        if not counted:
            raise DataError(
                f"none of {len(rows)} pairs has {self.config.least} votes; fix: set least lower, or give more"
            )
        left, right = (self._features([texts[side] for texts, _ in counted]) for side in (0, 1))
        votes = torch.tensor([votes for _, votes in counted], dtype=torch.float64)
        weights = _least_loss(left - right, votes, self.config.l2)
        self._weights = weights.numpy()
        margins, decided = (left - right) @ weights, votes[:, 0] != votes[:, 1]
        right_way = (margins > 0) == (votes[:, 0] > votes[:, 1])
        metrics = {"pairs": float(len(counted)), "too_few": float(len(pairs) - len(counted))}
        return metrics | ({"accuracy": float(right_way[decided].double().mean())} if decided.any() else {})

    def scores(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """u of each."""
        if self._weights is None:
            raise ValueError("a model of votes that was neither fitted nor loaded")
        return [float(self._weights[self._buckets(text)].sum()) for text in responses]

    def save(self, folder: Path) -> None:
        """Weights, and the settings that they are good for."""
        assert self._weights is not None, "nothing was fitted"
        np.savez(folder / WEIGHTS, weights=self._weights)
        (folder / SETTINGS).write_bytes(orjson.dumps(asdict(self.config)))

    def load(self, folder: Path) -> None:
        """Raises DataError on other settings, and on a folder that holds none."""
        try:
            same = orjson.loads((folder / SETTINGS).read_bytes()) == orjson.loads(orjson.dumps(asdict(self.config)))
            with np.load(folder / WEIGHTS) as arrays:
                weights = arrays["weights"]
        except (OSError, ValueError, KeyError) as cause:
            fix = "fix: name the folder that Fit left"
            raise DataError(f"{folder} holds no model of votes: {cause}; {fix}") from cause
        if not same:
            raise DataError(f"{folder} was fitted with other settings; fix: give both places the same")
        self._weights = weights

    def _pair(self, row: PlacedRow) -> tuple[list[str], list[float]]:
        columns = Columns(row.columns, row.place, "", "")
        texts = [columns.need(name) for name in self.config.texts]
        for name, text in zip(self.config.texts, texts, strict=True):
            if not isinstance(text, str):
                fix = "fix: give a text, or name its column as the setting `texts`"
                raise DataError(f"{row.place}: {name} is no text, but {text!r:.60}; {fix}")
        return texts, [_votes(columns, name) for name in self.config.votes]

    def _buckets(self, text: str) -> np.ndarray:
        return presence(text, self.config.longest, self.config.buckets)

    def _features(self, texts: Sequence[str]) -> torch.Tensor:
        """[N, buckets] 1 for what is there."""
        features = torch.zeros(len(texts), self.config.buckets, dtype=torch.float64)
        for row, text in enumerate(texts):
            features[row, self._buckets(text)] = 1.0
        return features


def _votes(columns: Columns, name: str) -> float:
    """A number of votes, which a table may have as a text. Raises DataError on what cannot be one."""
    value = columns.need(name)
    try:
        votes = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        votes = -1.0
    if not 0 <= votes < float("inf"):
        fix = "fix: give how many prefer the text, 0 or more"
        raise DataError(f"{columns.place}: {name} is no number of votes, but {value!r:.60}; {fix}")
    return votes


def _least_loss(differences: torch.Tensor, votes: torch.Tensor, l2: float) -> torch.Tensor:
    """[D] the weights of least loss. differences: [N, D]; votes: [N, 2]."""
    weights = torch.zeros(differences.shape[1], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        margins = differences @ weights
        for_left, for_right = (functional.logsigmoid(sign * margins) for sign in (1, -1))
        value = -(votes[:, 0] * for_left + votes[:, 1] * for_right).sum() + l2 / 2 * weights.square().sum()
        value.backward()
        return value

    search.step(loss)
    return weights.detach()
