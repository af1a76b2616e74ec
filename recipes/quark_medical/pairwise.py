"""Rewards that are fitted to comparisons: the ORM on graded pairs and ties, and a model of users' feedback.

    L_diff = mean log(1 + exp(m' - (r(x, y_win) - r(x, y_lose))))          m' = m or 0
    L_same = mean log(1 + exp(|r(x, y_1) - r(x, y_2)| - m))                corrected: least where the gap is 0
           = mean log(1 + exp(-|r(x, y_1) - r(x, y_2)|))                   printed: pushes ties apart
    J      = L_diff + lambda L_same

r is a small network on hashed words of the answer, its overlap with the question, and its length.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from raylign.actors.reward.scripts import words_of
from raylign.contracts import PlacedRow, ScoringEstimator
from raylign.data.questions import question_of
from raylign.errors import DataError
from raylign.objectives.loss.bradley_terry import TieSign
from raylign.recipes.quark_medical.comparisons import Comparisons, RowColumns, comparisons_of
from raylign.records import Prompt

Float32s = NDArray[np.float32]
SETTINGS, WEIGHTS = "settings.json", "weights.npz"
OVERLAPS = 3  # features beside the words


@dataclass
class Network:
    """Size and training of the network."""

    buckets: int = 2048  # words share their features by hash
    hidden: int = 64
    epochs: int = 32
    batch: int = 64  # comparisons
    lr: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("buckets", "hidden", "epochs", "batch", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, set it above 0")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}, set it to 0 or more")


class HashedOrm(ScoringEstimator):
    """r, without bounds. Rows are graded answers (those of one question are compared) or pairs, see `RowColumns`.

    Metrics: ``pairs``, ``ties``, ``accuracy`` (pairs in order), ``gap`` and ``tie_gap`` (mean |difference| of pairs,
    and of ties), all over the rows that it was fitted to; ``ungraded`` (rows left out, as they lack a grade).
    """

    @dataclass
    class Config:
        """What is read of a row, the objective, and the network."""

        columns: RowColumns = field(default_factory=RowColumns)
        tie_weight: float = 0.5  # lambda [inferred]
        tie_sign: TieSign = TieSign.corrected
        margin: float = 0.0  # m
        margin_in_pairs: bool = False
        network: Network = field(default_factory=Network)

        def __post_init__(self) -> None:
            if self.tie_weight < 0 or self.margin < 0:
                raise ValueError(f"tie_weight={self.tie_weight}, margin={self.margin}: set them to 0 or more")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._arrays: dict[str, Float32s] = {}

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> dict[str, float]:
        """Find the weights. Raises DataError where there is no pair to learn from."""
        known = comparisons_of(rows, self.config.columns)
        lacking = f"{known.ungraded} of {len(rows)} rows lack one of {', '.join(self.config.columns.grade)}"
        if known.ungraded:
            logging.getLogger(__name__).warning("%s: they are left out", lacking)
        if not known.pairs:
            raise DataError(
                f"{len(rows)} rows make no pair of a better and a worse answer to one question"
                f"{f' ({lacking})' if known.ungraded else ''}; "
                "fix: set columns, or give rows with different grades"
            )
        features = self.features(known.questions, known.answers)
        model = self._network(seed)
        pairs, ties = (np.array(part, np.int64).reshape(-1, 2) for part in (known.pairs, known.ties))
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=self.config.network.lr, weight_decay=self.config.network.weight_decay
        )
        order, inputs = np.random.default_rng(seed), torch.from_numpy(features)
        for _ in range(self.config.network.epochs):
            for part, same in self._batches(order.permutation(len(pairs)), order.permutation(len(ties))):
                optimizer.zero_grad()
                self._loss(model, inputs, pairs[part], ties[same]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        self._arrays = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
        scores = self._of_features(features)
        self._arrays["center"] = np.array([scores.mean()], np.float32)
        return figures(scores, known)

    def scores(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """r of each."""
        rewards: list[float] = self.rewards([question_of(prompt)] * len(responses), responses).tolist()
        return rewards

    def rewards(self, questions: Sequence[str], answers: Sequence[str]) -> Float32s:
        """[N] r of each answer to its question."""
        return self._of_features(self.features(questions, answers))

    def features(self, questions: Sequence[str], answers: Sequence[str]) -> Float32s:
        """[N, buckets + 3] log counts of hashed words, of length 1; shares of words that question and answer share, and
        the log of the answer's number of words.
        """
        rows = np.zeros((len(answers), self.config.network.buckets + OVERLAPS), np.float32)
        for row, question, answer in zip(rows, questions, answers, strict=True):
            words, asked = words_of(answer), set(words_of(question))
            for word in words:
                row[zlib.crc32(word.encode("utf-8", "replace")) % self.config.network.buckets] += 1
            row[:-OVERLAPS] = np.log1p(row[:-OVERLAPS])
            row[:-OVERLAPS] /= max(float(np.linalg.norm(row[:-OVERLAPS])), 1e-9)
            shared = asked & set(words)
            row[-OVERLAPS:] = (
                len(shared) / max(len(asked), 1),
                sum(word in asked for word in words) / max(len(words), 1),
                np.log1p(len(words)) / 4,
            )
        return rows

    def save(self, folder: Path) -> None:
        """Weights, and the settings that they are good for."""
        arrays: dict[str, Any] = {**self._known()}
        np.savez(folder / WEIGHTS, **arrays)
        (folder / SETTINGS).write_bytes(orjson.dumps(self._settings()))

    def load(self, folder: Path) -> None:
        """Raises DataError on other settings, and on a folder that holds none."""
        kind = type(self).__name__
        try:
            known: dict[str, Any] = orjson.loads((folder / SETTINGS).read_bytes())
            with np.load(folder / WEIGHTS) as arrays:
                self._arrays = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, KeyError) as cause:
            raise DataError(f"{folder} holds no {kind}: {cause}; fix: name the folder that its Fit left") from cause
        now = self._settings()
        if changed := [f"{name}={known.get(name)}, now {now[name]}" for name in now if known.get(name) != now[name]]:
            raise DataError(f"{folder} was fitted with {'; '.join(changed)}; fix: give both places the same settings")

    def _settings(self) -> dict[str, Any]:
        """JSON types."""
        settings: dict[str, Any] = orjson.loads(orjson.dumps({"estimator": type(self).__name__, **asdict(self.config)}))
        return settings

    def _batches(self, pairs: NDArray[np.int64], ties: NDArray[np.int64]) -> list[tuple[Any, Any]]:
        """As many parts of both, so that every step sees its share of ties."""
        count = -(-len(pairs) // self.config.network.batch)
        return list(zip(np.array_split(pairs, count), np.array_split(ties, count), strict=True))

    def _loss(self, model: torch.nn.Module, inputs: torch.Tensor, pairs: Any, ties: Any) -> torch.Tensor:
        used = np.concatenate([pairs.ravel(), ties.ravel()])
        rewards: torch.Tensor = model(inputs[used])[:, 0]
        better, worse = rewards[: pairs.size].reshape(-1, 2).T
        one, other = rewards[pairs.size :].reshape(-1, 2).T
        return pair_loss(better - worse, (one - other).abs(), self.config)

    def _network(self, seed: int) -> torch.nn.Module:
        size = self.config.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            return torch.nn.Sequential(
                torch.nn.Linear(size.buckets + OVERLAPS, size.hidden), torch.nn.ReLU(), torch.nn.Linear(size.hidden, 1)
            )

    def _of_features(self, features: Float32s) -> Float32s:
        known = self._known()
        hidden = np.maximum(features @ known["0.weight"].T + known["0.bias"], 0.0)
        return np.asarray((hidden @ known["2.weight"].T + known["2.bias"])[:, 0], np.float32)

    def _known(self) -> dict[str, Float32s]:
        if not self._arrays:
            raise ValueError("an estimator that was neither fitted nor loaded")
        return self._arrays


class Feedback(HashedOrm):
    """The chance that a user likes an answer: sigmoid(r - mean r of the logged answers).

    Rows are logged answers; what users did (like, follow-up, dwell) grades them by `columns.grade`.
    """

    @dataclass
    class Config(HashedOrm.Config):
        """As of the ORM, whose ties are judgements; users who do the same by chance say nothing of the kind."""

        tie_weight: float = 0.0

    def scores(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """Between 0 and 1."""
        center = float(self._known()["center"][0])
        return [float(1 / (1 + np.exp(-np.clip(r - center, -50, 50)))) for r in super().scores(prompt, responses)]


def pair_loss(gaps: torch.Tensor, tie_gaps: torch.Tensor, config: HashedOrm.Config) -> torch.Tensor:
    """J. gaps: [P] of the better over the worse; tie_gaps: [T], absolute."""
    loss = softplus((config.margin if config.margin_in_pairs else 0.0) - gaps).mean() if len(gaps) else gaps.sum()
    if not len(tie_gaps) or not config.tie_weight:
        return loss
    signed = tie_gaps - config.margin if config.tie_sign is TieSign.corrected else -tie_gaps
    return loss + config.tie_weight * softplus(signed).mean()


def figures(scores: NDArray[Any], known: Comparisons) -> dict[str, float]:
    """See `HashedOrm`. scores: r of the answers."""
    pairs, ties = (np.array(part, np.int64).reshape(-1, 2) for part in (known.pairs, known.ties))
    gaps, tie_gaps = (scores[part[:, 0]] - scores[part[:, 1]] for part in (pairs, ties))
    metrics = {"pairs": float(len(pairs)), "ties": float(len(ties)), "ungraded": float(known.ungraded)}
    if len(pairs):
        metrics |= {"accuracy": float((gaps > 0).mean()), "gap": float(np.abs(gaps).mean())}
    if len(ties):
        metrics["tie_gap"] = float(np.abs(tie_gaps).mean())
    return metrics
