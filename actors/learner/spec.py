"""What a learner or a frozen model loads, and what its ranks report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.config.schema import Config, LearnerConfig, LoraConfig
from raylign.records import Float32s

DTYPES = ("float32", "bfloat16")
KINDS = {  # forward kinds that have a name
    "causal_lm": "raylign.actors.learner.kinds.causal_lm.CausalLm",
    "reward_model": "raylign.actors.learner.kinds.reward_model.RewardModelKind",
    "scalar_head": "raylign.actors.learner.kinds.scalar_head.ScalarHead",
}
LOGPROB_STREAM = "old_logprob"  # of a batch: log-probs under the weights as they are
VALUE_STREAM = "value"
SCORE_STREAM = "score"


def kind_node(kind: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``_target_`` node of a forward kind that is given by its name or as one. Raises ValueError for no kind."""
    if not isinstance(kind, str) and "_target_" in kind:
        return kind
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind is {kind}; name {' or '.join(KINDS)}, or give a mapping with the _target_ of a class")
    return {"_target_": KINDS[kind]}


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """One model to train, or (by a `FrozenModelGroup`, which reads only part of it) to take log-probs from.

    Example: ``LearnerSpec(model_path="models/tiny", dtype="float32", learner=LearnerConfig(gpus=0), total_steps=100)``
    """

    model_path: str  # Hugging Face folder or id
    learner: LearnerConfig
    total_steps: int  # optimiser steps of the schedule
    kind: str | Mapping[str, Any] = "causal_lm"  # a forward kind: one of KINDS, or a `_target_` node
    dtype: str = "float32"  # float32 | bfloat16
    temperature: float = 1.0  # of the sampler; log-probs and entropies are those of the scaled distribution
    seed: int = 0
    deadline_s: float = 1800.0  # that any single call may take
    trust_remote_code: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)  # rank 0: all weights are trained

    @classmethod
    def of(
        cls, cfg: Config, kind: str | Mapping[str, Any], path: str, learner: LearnerConfig, total_steps: int
    ) -> LearnerSpec:
        """A model of a run."""
        return cls(
            kind=kind,
            model_path=path,
            dtype=cfg.model.dtype,
            temperature=cfg.rollout.sampling.temperature,
            learner=learner,
            total_steps=total_steps,
            seed=cfg.seed,
            deadline_s=cfg.run.deadline_s,
            trust_remote_code=cfg.model.trust_remote_code,
        )

    def __post_init__(self) -> None:
        kind_node(self.kind)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype}; a learner computes in {' or '.join(DTYPES)}")

    @property
    def kind_name(self) -> str:
        """The kind in messages and in checkpoints, its settings included."""
        return self.kind if isinstance(self.kind, str) else json.dumps(dict(self.kind), sort_keys=True, default=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready.

    `note`: one line about one that is not computed as fast as others; empty for most. `streams`: what its forward kind
    can fill.
    """

    seconds: float
    parameters: int
    note: str = ""
    streams: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTokens:
    """Per-token results of one rank: positions in the batch's flat streams and the values there."""

    index: NDArray[np.int64]  # [K]
    values: Float32s  # [K]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankUpdate:
    """What one rank reports about an update. `sums` add up over ranks, `maxima` do not, `common` are equal on all.

    `tokens`: the log-probs of its loss tokens before the step, of a model that has them.
    """

    sums: Mapping[str, float] = field(default_factory=dict)
    maxima: Mapping[str, float] = field(default_factory=dict)
    common: Mapping[str, float] = field(default_factory=dict)
    tokens: RankTokens | None = None


def merge_updates(reports: list[RankUpdate]) -> dict[str, float]:
    """The metrics of the whole step."""
    merged: dict[str, float] = {}
    for report in reports:
        for name, value in report.sums.items():
            merged[name] = merged.get(name, 0.0) + value
        for name, value in report.maxima.items():
            merged[name] = max(merged.get(name, value), value)
    merged.update(reports[0].common)
    merged["learner/tokens_per_second"] = merged["learner/tokens"] / max(merged["learner/seconds"], 1e-9)
    return merged


def scatter(parts: list[RankTokens], tokens: int) -> Float32s:
    """[N] with the ranks' values in place and 0 elsewhere."""
    full = np.zeros(tokens, np.float32)
    for part in parts:
        full[part.index] = part.values
    return full
