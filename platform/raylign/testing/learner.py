"""A learner that is one row of logits: every token is drawn from the same distribution, whatever precedes it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.contracts import LearnerUpdate, WeightUpdate
from raylign.records import Float32s

VOCAB = 8  # token ids are below
BYTES = 256  # the vocabulary of texts: one token a byte
NAME, FILE = "logits", "learner.npz"


class FakeLearner:
    """Implements `raylign.contracts.Learner` by policy gradient in NumPy: the same updates give the same bits.

    An update goes up the mean over the loss tokens of weight * advantage * log-prob, whatever the objective says; where
    all advantages are 0 it goes up the mean of weight * log-prob (supervised). What it was given is kept in `batches`
    and `objectives`.
    """

    def __init__(self, lr: float = 1.0, vocab: int = VOCAB) -> None:
        self.lr = lr
        self.logits: NDArray[np.float64] = np.zeros(vocab)
        self.updates = 0
        self.fills = frozenset({"old_logprob"})
        self.batches: list[Batch] = []
        self.objectives: list[Mapping[str, Any]] = []

    async def streams(self, batch: Batch, names: Collection[str]) -> Mapping[str, Float32s]:
        """The log-probs of the loss tokens under each name. Raises ValueError for a name that it does not fill."""
        if foreign := sorted(set(names) - self.fills):
            raise ValueError(f"a FakeLearner fills {', '.join(self.fills)}, not {', '.join(foreign)}")
        return {name: self._logprobs(batch) for name in names}

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        """One step of gradient ascent; `logprobs` are those before it. Raises ValueError without a loss token."""
        mask = np.asarray(batch["loss_mask"], bool)
        if not mask.any():
            raise ValueError("a batch without a loss token")
        before, worth = self._logprobs(batch), np.asarray(batch["weight"], np.float64)[mask]
        if np.any(batch["advantage"]):
            worth = worth * np.asarray(batch["advantage"], np.float64)[mask]
        taken = np.bincount(np.asarray(batch["token_ids"])[mask], worth, len(self.logits))
        gradient = (taken - worth.sum() * np.exp(log_softmax(self.logits))) / mask.sum()
        self.logits = self.logits + self.lr * gradient
        self.updates += 1
        self.batches.append(batch)
        self.objectives.append(objective)
        loss, norm = -float(np.mean(worth * before[mask])), float(np.linalg.norm(gradient))
        return LearnerUpdate(metrics={"loss": loss, "grad_norm": norm}, logprobs=before)

    async def publish(self, version: int) -> WeightUpdate:
        """`buffer` holds the logits themselves, no reference to them."""
        buffer = np.frombuffer(self.logits.tobytes(), np.uint8)
        probe = np.arange(len(self.logits), dtype=np.int32)[None, :]
        return WeightUpdate(
            version=version,
            buffer=buffer,
            layout=((NAME, "float64", self.logits.shape, 0),),
            digests={NAME: hashlib.sha256(buffer.tobytes()).hexdigest()},
            probe_ids=probe,
            probe_logprobs=log_softmax(self.logits)[probe[:, 1:]].astype(np.float32),
        )

    async def save(self, folder: str) -> None:
        """Write the logits and the number of updates."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.savez(Path(folder) / FILE, logits=self.logits, updates=self.updates)

    async def restore(self, folder: str) -> None:
        """Go on from what `save` wrote."""
        with np.load(Path(folder) / FILE) as saved:
            self.logits, self.updates = saved["logits"], int(saved["updates"])

    async def export(self, folder: str) -> None:
        """Write what `save` writes: there is no model to be written as Hugging Face has them."""
        await self.save(folder)

    def _logprobs(self, batch: Batch) -> Float32s:
        """[N], 0 off the loss mask. Raises ValueError on ids beyond the vocabulary."""
        ids, mask = np.asarray(batch["token_ids"]), np.asarray(batch["loss_mask"], bool)
        largest = int(ids[mask].max(initial=0))
        if largest >= len(self.logits):
            raise ValueError(f"token id {largest} is beyond FakeLearner(vocab={len(self.logits)}); texts need {BYTES}")
        logprobs = np.zeros(len(ids), np.float32)
        logprobs[mask] = log_softmax(self.logits)[ids[mask]]
        return logprobs


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V] log-probs."""
    shifted = logits - logits.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
