"""Advantages finer than a trajectory: one per dialogue turn, or ready-made ones per call of the policy.

A dialogue turn may take several calls. Scores of calls (stream `turn_score`) add up to the score of their turn, which
is compared with the same turn in the other rollouts of the group that got that far (CM2, arXiv:2602.12268, eq. 6-7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.batch import Batch
from raylign.contracts import Advantage
from raylign.objectives.advantage.base import Float64s, GroupAdvantage, rewards_differ
from raylign.objectives.advantage.group import GRPO, DrGRPO, Std
from raylign.records import Float32s


class Level(Enum):
    """Unit that gets one advantage.

    `trajectory`: the row, from its score. `turn`: each dialogue turn, from the scores of its calls.
    `step`: each call of the policy; its turn score *is* its advantage, made by a shaper that knew the group.
    """

    trajectory = "trajectory"
    turn = "turn"
    step = "step"


class TurnStd(Enum):
    """`none`: a deviation from the mean is left as it is (Dr. GRPO). `sample`, `population`: divided (GRPO)."""

    none = "none"
    sample = "sample"
    population = "population"


class TurnAdvantage(Advantage):
    """Advantages by level; the same on all tokens of a row, a turn or a call.

    At levels trajectory and turn they are Dr. GRPO's, or GRPO's where `std` divides. At level turn the group of a score
    R_{i,t} is turn t of all rollouts that hold it; the advantage is exactly 0 where fewer than `min_holders` do or all
    of them score the same. A NaN score is missing: advantage 0, weight 0, in no statistic. Statistics are float64.
    """

    compares_samples = True

    @dataclass
    class Config:
        """Every choice that changes the number."""

        level: Level = Level.trajectory
        std: TurnStd = TurnStd.none
        min_holders: int = 5  # of level turn
        epsilon: float = 1e-6

        def __post_init__(self) -> None:
            if self.min_holders < 1 or self.epsilon < 0:
                raise ValueError("min_holders must be 1 or more and epsilon 0 or more")
            if self.level is Level.step and self.std is not TurnStd.none:
                raise ValueError("level=step takes advantages as they are: normalise them in the shaper, set std=none")

    config: Config

    @property
    def whole_trajectories(self) -> bool:
        """Its turns are counted along a trajectory."""
        return self.config.level is not Level.trajectory

    def __init__(self, config: Config) -> None:
        self.config = config
        self._compared: GroupAdvantage
        if config.std is TurnStd.none:
            self._compared = DrGRPO(DrGRPO.Config())
        else:
            self._compared = GRPO(GRPO.Config(std=Std[config.std.name], epsilon=config.epsilon))

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        """Fill `advantage`; zero `weight` on missing rows. Raises ValueError when the levels' streams are not there."""
        whole, metrics = self._compared.assign(batch, scores)
        if self.config.level is Level.trajectory:
            return whole, metrics
        absent = [name for name in ("call", "turn", "turn_score") if name not in batch]
        if absent:
            level, streams = self.config.level.name, ", ".join(absent)
            raise ValueError(f"level={level} needs the streams {streams}: no shaper gave turn scores")
        valid = ~np.isnan(np.asarray(scores, np.float64))
        counted = np.asarray(batch["loss_mask"], bool) & valid[batch.row_of_token]
        missing = counted & np.isnan(batch["turn_score"])
        if missing.any():
            row = int(batch.row_of_token[np.flatnonzero(missing)[0]])
            raise ValueError(f"row {row} has a score and calls without a turn score")
        if self.config.level is Level.step:
            advantage = np.where(counted, batch["turn_score"], 0.0)
        else:
            advantage, few = self._by_turn(batch, np.flatnonzero(valid))
            metrics["advantage/few_holders"] = few
        metrics["advantage/abs"] = float(np.mean(np.abs(advantage[counted]))) if counted.any() else 0.0
        return whole.with_streams(advantage=advantage.astype(np.float32)), metrics

    def _by_turn(self, batch: Batch, rows: Iterable[int]) -> tuple[Float64s, float]:
        """[N] advantages, and the share of (group, turn) that too few rollouts hold."""
        cells: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for row in rows:
            for turn, score in call_scores(batch, row).items():
                cells.setdefault((int(batch.groups[row]), turn), []).append((row, score))
        advantage = np.zeros(batch.tokens)
        few = 0
        for (_, turn), members in cells.items():
            few += len(members) < self.config.min_holders
            deviations = self._of_turn(np.array([score for _, score in members]))
            for (row, _), deviation in zip(members, deviations, strict=True):
                start, end = batch.offsets[row], batch.offsets[row + 1]
                advantage[start:end][batch.row(row, "turn") == turn] = deviation
        return advantage, few / max(len(cells), 1)

    def _of_turn(self, scores: Float64s) -> Float64s:
        """[H] advantages of the H rollouts that hold a turn."""
        if len(scores) < self.config.min_holders or not rewards_differ(scores):
            return np.zeros(len(scores))
        return self._compared.of_group(scores)


def call_scores(batch: Batch, row: int) -> dict[int, float]:
    """Score of each dialogue turn that a row holds: the sum over its calls, each counted once."""
    call = batch.row(row, "call")
    _, first = np.unique(call, return_index=True)
    first = first[call[first] >= 0]
    sums: dict[int, float] = {}
    for turn, score in zip(batch.row(row, "turn")[first], batch.row(row, "turn_score")[first], strict=True):
        sums[int(turn)] = sums.get(int(turn), 0.0) + float(score)
    return sums
