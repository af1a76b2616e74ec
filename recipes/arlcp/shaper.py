"""The reward of a whole group: correctness, less a penalty on reflections and length that right answers alone pay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.contracts import GroupMetrics, RewardShaper, finite
from raylign.data.pass_rate import SOLVED
from raylign.errors import RewardError
from raylign.objectives.shaping import correctness, correctness_reward
from raylign.recipes.arlcp.log import TIERS, Float64s, Shaped, rows, splits
from raylign.records import Group, Trajectory, Value

# fmt: off
KEYWORDS = (
    "wait", "alternatively", "hold on", "another thought", "verify", "think again", "but", "however", "alternative",
    "check", "double-check", "oh", "hmm",
)
# fmt: on


class KeywordCounter:
    """Counts keywords in a text: any case, whole words, the leftmost match consumes its text.

    Example: ``KeywordCounter(KEYWORDS)("Wait, but let me double-check.")`` is 3
    """

    def __init__(self, keywords: Sequence[str]) -> None:
        if not keywords or not all(keywords):
            raise ValueError("keywords must be a list of non-empty texts")
        # Longest first: where two keywords begin at the same letter, the longer one consumes the text.
        words = "|".join(re.escape(word) for word in sorted(keywords, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)

    def __call__(self, text: str) -> int:
        """Number of matches."""
        return sum(1 for _ in self._pattern.finditer(text))


class BudgetSplit(Enum):
    """How the budget alpha is divided between the reflection term and the length term."""

    tiered = "tiered"  # the paper: lambda_1..3 to reflections by the answer's tier, the rest to length
    fixed = "fixed"  # `fixed_reflection` to reflections whatever the tier, the rest to length
    reflection = "reflection"  # all of it to reflections
    length = "length"  # all of it to length: TLMRE


class StatisticsPool(Enum):
    """Whose counts and lengths make mean and deviation."""

    gated = "gated"  # answers that the reward calls right
    released = "released"  # the released code: answers whose last box is right, whatever their think tags


class Penalised(Enum):
    """Which answers pay the penalties."""

    right = "right"  # the paper: r = C (1 - penalty)
    all = "all"  # r = C - penalty, the contrast in which brevity can outrank correctness


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the rewards of one group rest on, of the answers that have a verdict: each array [n], and the rewards."""

    verdicts: Mapping[int, Value]  # by the trajectory's index, in the order of the arrays
    reflections: Float64s
    lengths: Float64s
    correct: NDArray[np.bool_]
    pooled: NDArray[np.bool_]
    shaped: Shaped


class ReflectionPenalty(RewardShaper):
    """The reward of ARLCP from the verifier's verdicts, the decoded texts and the token counts of a whole group.

    A trajectory whose verdict is missing has no score and enters no statistic. Recorded per trajectory (so that every
    number can be recomputed from the logged rows): ``arlcp/reflections``, ``length``, ``correct``, ``pooled``,
    ``tier``, ``f_reflection``, ``f_length``, ``reward``, and the group's means and deviations. ``unused/reflections``
    is the share of groups in which no answer reflects, where the reflection term, if it is on, takes the same from all.
    """

    @dataclass
    class Config:
        """Every choice that changes the number; defaults are the paper's, tuned to traces of 16k tokens."""

        alpha: float = 0.2
        n_1: int = 40  # at most so many reflections: easy
        n_2: int = 80  # at most so many: medium
        lambdas: list[float] = field(default_factory=lambda: [0.05, 0.10, 0.15])  # alpha_1 of easy, medium, hard
        split: BudgetSplit = BudgetSplit.tiered
        fixed_reflection: float = 0.1  # alpha_1 of split=fixed
        pool: StatisticsPool = StatisticsPool.gated
        penalised: Penalised = Penalised.right
        keywords: list[str] = field(default_factory=lambda: list(KEYWORDS))
        epsilon: float = 1e-6
        reward: str = ""  # the reward that tells correctness; empty: the only one with a weight

        def __post_init__(self) -> None:
            if not 0 <= self.n_1 < self.n_2:
                raise ValueError(f"n_1={self.n_1}, n_2={self.n_2}: set 0 <= n_1 < n_2")
            if len(self.lambdas) != len(TIERS):
                raise ValueError(f"lambdas has {len(self.lambdas)} values, one per tier makes {len(TIERS)}")
            if not 0 <= self.alpha <= 1:
                raise ValueError(f"alpha={self.alpha}: set 0 <= alpha <= 1, so that right answers outrank wrong ones")
            shares = self.lambdas if self.split is BudgetSplit.tiered else []
            shares = [self.fixed_reflection] if self.split is BudgetSplit.fixed else shares
            # alpha 0 turns the penalties off whatever the split says
            if self.alpha and any(not 0 <= share <= self.alpha for share in shares):
                raise ValueError(f"the reflection shares {shares} must lie between 0 and alpha={self.alpha}")

    def __init__(
        self, config: Config, weights: Mapping[str, float], max_tokens: int, tokenizer: Any = None, seed: int = 0
    ) -> None:
        # max_tokens: truncation needs no rule of its own, a thought that is cut off is wrong by the gate;
        # tokenizer, seed: keywords are counted in the text, and nothing is drawn
        self.config = config
        self.reward = correctness_reward("shaper.reward", config.reward, weights)
        self.count = KeywordCounter(config.keywords)
        self._counted: dict[str, int] = {}  # reflections of the texts scored last, whose metrics are asked for next

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with scores. Raises RewardError when the pool needs details that are not there."""
        self._counted = {t.text: self.count(t.text) for group in groups for t in group.trajectories}
        return [self._scored(group) for group in groups]

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        """Every number behind the scores that `score` gives; raises as it does."""
        return [self._metrics(group) for group in groups]

    def _scored(self, group: Group) -> Group:
        scores: list[float | None] = [None] * len(group.trajectories)
        if measured := self._measured(group):
            for i, reward in zip(measured.verdicts, measured.shaped.reward, strict=True):
                scores[i] = float(reward)
        return replace(group, scores=tuple(scores))

    def _metrics(self, group: Group) -> GroupMetrics:
        measured = self._measured(group)
        judged = len(measured.verdicts) if measured else 0
        of_group = {"reward/unscored": 1 - judged / max(len(group.trajectories), 1)}
        logged: list[dict[str, float]] = [{} for _ in group.trajectories]
        if measured:
            numbers = rows(measured.shaped, measured.reflections, measured.lengths, measured.correct, measured.pooled)
            for (i, verdict), row in zip(measured.verdicts.items(), numbers, strict=True):
                logged[i] = row | splits(row, group.trajectories[i], verdict)
            of_group["arlcp/groups_none_correct"] = float(not measured.correct.any())
            of_group["arlcp/groups_one_correct"] = float(measured.correct.sum() == 1)
            if self.config.alpha and self.config.split is not BudgetSplit.length:
                of_group["unused/reflections"] = float(not measured.reflections.any())
        return GroupMetrics(group=of_group, trajectories=logged)

    def _measured(self, group: Group) -> Measured | None:
        """None where no trajectory has a verdict."""
        verdicts = {i: verdict for i, verdict in enumerate(correctness(group, self.reward)) if verdict is not None}
        if not verdicts:
            return None
        judged = [group.trajectories[i] for i in verdicts]
        reflections = np.array([self._reflections(trajectory.text) for trajectory in judged], np.float64)
        lengths = np.array([trajectory.response_length for trajectory in judged], np.float64)
        correct = np.array([self._correct(verdict.score, judged[0]) for verdict in verdicts.values()])
        pooled = np.array([self._pooled(verdict, own) for verdict, own in zip(verdicts.values(), correct, strict=True)])
        return Measured(
            verdicts=verdicts,
            reflections=reflections,
            lengths=lengths,
            correct=correct,
            pooled=pooled,
            shaped=shape_group(reflections, lengths, correct, pooled, self.config),
        )

    def _reflections(self, text: str) -> int:
        count = self._counted.get(text)
        return self.count(text) if count is None else count

    def _correct(self, verdict: float, trajectory: Trajectory) -> bool:
        return finite(verdict, f"reward {self.reward} of {trajectory.prompt_key}") >= SOLVED

    def _pooled(self, verdict: Value, correct: bool) -> bool:
        if self.config.pool is StatisticsPool.gated:
            return correct
        if "ungated" not in verdict.details:
            raise RewardError(
                f"shaper.pool=released reads details[ungated], which reward {self.reward} does not give; "
                "fix: wrap its verifier in raylign.actors.reward.think_gate.ThinkGate, or set shaper.pool=gated"
            )
        return float(verdict.details["ungated"]) >= SOLVED


def shape_group(
    reflections: Float64s,
    lengths: Float64s,
    correct: NDArray[np.bool_],
    pooled: NDArray[np.bool_],
    config: ReflectionPenalty.Config,
) -> Shaped:
    """The equations of the module's docstring for one group of n answers. All arguments are [n]."""
    mean_r, std_r = _statistics(reflections[pooled])
    mean_l, std_l = _statistics(lengths[pooled])
    f_reflection = sigmoid((reflections - mean_r) / (std_r + config.epsilon))
    f_length = sigmoid((lengths - mean_l) / (std_l + config.epsilon))
    tier = (reflections > config.n_1).astype(np.int64) + (reflections > config.n_2)
    alpha_r = _reflection_share(tier, config)
    alpha_l = config.alpha - alpha_r
    penalty = alpha_r * f_reflection + alpha_l * f_length
    right = correct.astype(np.float64)
    return Shaped(
        tier=tier,
        f_reflection=f_reflection,
        f_length=f_length,
        alpha_reflection=alpha_r,
        alpha_length=alpha_l,
        reward=right - penalty if config.penalised is Penalised.all else right * (1.0 - penalty),
        means=(mean_r, mean_l),
        stds=(std_r, std_l),
    )


def sigmoid(z: Float64s) -> Float64s:
    """1 / (1 + exp(-z)) without overflow at any size of z."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def _statistics(values: Float64s) -> tuple[float, float]:
    """Mean and deviation. The latter is 1 for a single value, whose z-score is 0 in any case, and for none."""
    mean = float(values.mean()) if len(values) else 0.0
    return mean, float(values.std(ddof=1)) if len(values) > 1 else 1.0


def _reflection_share(tier: NDArray[np.int64], config: ReflectionPenalty.Config) -> Float64s:
    if config.alpha == 0 or config.split is BudgetSplit.length:
        return np.zeros(len(tier))
    if config.split is BudgetSplit.reflection:
        return np.full(len(tier), config.alpha)
    if config.split is BudgetSplit.fixed:
        return np.full(len(tier), config.fixed_reflection)
    return np.asarray(config.lambdas, np.float64)[tier]
