r"""ARLCP: trim needless reflection from reasoning traces, on correct answers only (arXiv:2602.12113, ICLR 2026).

Objective, for n answers of one prompt with reflection count R, tokens L and correctness C in {0, 1}::

    f_R = sigmoid((R - mu_R) / (sd_R + 1e-6))     mu, sd over the correct answers of the same prompt (n - 1)
    f_L = sigmoid((L - mu_L) / (sd_L + 1e-6))     one correct answer: sd = 1, hence f = 1/2
    r   = C (1 - a_R f_R - a_L f_L),  a_R + a_L = alpha = 0.2
    a_R = 0.05 if R <= 40, 0.10 if R <= 80, else 0.15     (the tier is the answer's own, not the prompt's)
    S_i = r_i - 0.001 sum_t (log pi_old - log pi_ref)     k1 charged in the reward
    A_i = S_i - mean_{j != i} S_j                         RLOO, the same on every token

A wrong answer scores 0 and a right one more than 0.8, so brevity never outranks correctness.

Stages: rl (scale=tiny: sft on toy traces first). Needs: rollout, a verifier behind the think-tag gate, a frozen
reference, learner; no critic, no judge.

Command: ``raylign train recipe=arlcp scale=tiny`` (gpu and above: also ``model.path=… data.path=deepscaler.jsonl``)
Elsewhere, by overrides alone: ``recipe=composition_rl shaper={_target_: raylign.recipes.arlcp.ReflectionPenalty}``
7B: ``learner`` as above, ``stages.rl.eval_every=10 run.save_every=10``; the 1.5B script runs three epochs (steps=930)
Baselines: ``shaper.split=length`` is TLMRE, ``shaper.split=reflection`` drops the length term, ``shaper.split=fixed``
the tiers, ``shaper.alpha=0`` everything but correctness.

Expected: the paper's 1.5B model answers 53 % shorter at +5.8 points of accuracy (mean of five benchmarks). At
scale=tiny the excess of reflections over what a task needs falls from 8.1 to 0.8 within 40 steps, the answer from 34 to
24 tokens, while accuracy goes from .98 to .99 (seed 1). In this toy nearly every answer is right, so the run without
the gate ends alike (0.7, .98): what the gate is worth does not show here (`benchmarks/experiments/arlcp.py`).
Cost: paper 8 GPUs, 128 x 16 samples of up to 16k tokens a step, about 310 steps; tiny, with its supervised start, about
6 CPU minutes, the experiment 9 to 10.

Deviations and choices:

- The statistics come from the answers that the gate calls right. The released code also admits answers whose last box
  is right but whose think tags are not: ``shaper.pool=released`` does the same (it needs `ThinkGate`'s details).
- Groups are those of the prompt's draw, never of equal text, so a prompt that occurs twice stays two groups.
- Equality of answers is the verifier's: `BoxedMath` by default, where the released code has the MATH family's
  normaliser and a sympy check of its own (reduced fractions to the letter, at most two unknowns).
- lr 2e-6 and batch follow the released scripts; `steps` is one epoch of DeepScaleR's 40k problems [inferred].
- Validation samples at .6 and top-p .95, 16 answers a prompt; the released scripts repeat only AIME and AMC 16 times.
- An evaluation's score is accuracy; the shaped reward is logged as ``arlcp/reward``.
- [inferred] scale=tiny: 0.1 million parameters (the digest: 1 to 5), one letter a token, no plain steps in the traces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.actors.reward.response import ResponseReward, last_boxed
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import RewardShaper, finite
from raylign.errors import ConfigError, Problem, RewardError
from raylign.records import Group, Prompt, Trajectory, Value

Float64s = NDArray[np.float64]

# fmt: off
KEYWORDS = (
    "wait", "alternatively", "hold on", "another thought", "verify", "think again", "but", "however", "alternative",
    "check", "double-check", "oh", "hmm",
)
# fmt: on
TIERS = ("easy", "medium", "hard")


# ------------------------------------------------------------------------------------------------------- counting


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


# ------------------------------------------------------------------------------------------------------- the gate


class ThinkGate(ResponseReward):
    r"""A verifier that is only asked about the answer of a well-formed thinking response.

    0 when the response opens a think tag itself (the chat template already did), when it does not close exactly one, or
    when no ``\boxed`` (or ``\fbox``) stands after the tag; else the verdict of `verifier` on that box. Details:
    ``format`` (0 or 1) and ``ungated``, the verdict on the last box anywhere, whatever the tags say.
    """

    @dataclass
    class Config:
        """Tags and the verifier behind them; no opening tag: any text before the closing one is thought."""

        verifier: Node = node(ResponseReward, "raylign.actors.reward.boxed.BoxedMath")
        open_tag: str = "<think>"
        close_tag: str = "</think>"

        def __post_init__(self) -> None:
            if not self.close_tag:
                raise ValueError("close_tag must be a text: without it nothing tells the thought from the answer")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._verifier = build(ResponseReward, config.verifier, "verifier")
        self.isolated, self.cpu_s = self._verifier.isolated, self._verifier.cpu_s
        self.maximum = self._verifier.maximum

    def judge(self, prompt: Prompt, response: str) -> Value:
        """The gated verdict. Raises whatever the verifier raises on a prompt that it cannot judge."""
        well_formed = self._well_formed(response)
        everywhere = self._verdict(prompt, response)
        score = 0.0
        if well_formed:
            score = self._verdict(prompt, response.partition(self.config.close_tag)[2])
        return Value(score=score, details={"format": float(well_formed), "ungated": everywhere})

    def gold(self, prompt: Prompt) -> str | None:
        """A closed thought and the verifier's own gold response."""
        gold = self._verifier.gold(prompt)
        return None if gold is None else f"{self.config.close_tag}\n{gold}"

    def wrong(self, prompt: Prompt) -> str | None:
        """The gold response with its thought left open."""
        return self._verifier.gold(prompt)

    def _well_formed(self, response: str) -> bool:
        opened = bool(self.config.open_tag) and self.config.open_tag in response
        return not opened and response.count(self.config.close_tag) == 1

    def _verdict(self, prompt: Prompt, text: str) -> float:
        boxed = last_boxed(text.replace("\\fbox", "\\boxed"))
        if boxed is None:
            return 0.0
        return self._verifier.judge(prompt, f"\\boxed{{{boxed}}}").score


# ----------------------------------------------------------------------------------------------------- the shaper


class Split(Enum):
    """How the budget alpha is divided between the reflection term and the length term."""

    tiered = "tiered"  # the paper: lambda_1..3 to reflections by the answer's tier, the rest to length
    fixed = "fixed"  # `fixed_reflection` to reflections whatever the tier, the rest to length
    reflection = "reflection"  # all of it to reflections
    length = "length"  # all of it to length: TLMRE


class Pool(Enum):
    """Whose counts and lengths make mean and deviation."""

    gated = "gated"  # answers that the reward calls right
    released = "released"  # the released code: answers whose last box is right, whatever their think tags


class Penalised(Enum):
    """Which answers pay the penalties."""

    right = "right"  # the paper: r = C (1 - penalty)
    all = "all"  # r = C - penalty, the contrast in which brevity can outrank correctness


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """Every quantity of one group, each [n], and the statistics that they rest on.

    Example: ``Shaped(tier=[0, 0], f_reflection=[.5, .5], ..., reward=[.9, 0.0], means=(3, 80), stds=(1, 1))``
    """

    tier: NDArray[np.int64]  # 0 easy, 1 medium, 2 hard
    f_reflection: Float64s
    f_length: Float64s
    alpha_reflection: Float64s
    alpha_length: Float64s
    reward: Float64s
    means: tuple[float, float]  # of reflections and of tokens
    stds: tuple[float, float]


class ReflectionPenalty(RewardShaper):
    """The reward of ARLCP from the verifier's verdicts, the decoded texts and the token counts of a whole group.

    A trajectory whose verdict is missing has no score and enters no statistic. Recorded per trajectory (so that every
    number can be recomputed from the logged rows): ``arlcp/reflections``, ``length``, ``correct``, ``pooled``,
    ``tier``, ``f_reflection``, ``f_length``, ``reward``, and the group's means and deviations.
    """

    @dataclass
    class Config:
        """Every choice that changes the number; defaults are the paper's, tuned to traces of 16k tokens."""

        alpha: float = 0.2
        n_1: int = 40  # at most so many reflections: easy
        n_2: int = 80  # at most so many: medium
        lambdas: list[float] = field(default_factory=lambda: [0.05, 0.10, 0.15])  # alpha_1 of easy, medium, hard
        split: Split = Split.tiered
        fixed_reflection: float = 0.1  # alpha_1 of split=fixed
        pool: Pool = Pool.gated
        penalised: Penalised = Penalised.right
        keywords: list[str] = field(default_factory=lambda: list(KEYWORDS))
        epsilon: float = 1e-6
        lone_std: float = 1.0  # deviation when a single answer is right; its z-score is 0 in any case
        correct_from: float = 1.0  # verdicts from here on count as correct
        reward: str = ""  # the reward that tells correctness; empty: the only one with a weight

        def __post_init__(self) -> None:
            if not 0 <= self.n_1 < self.n_2:
                raise ValueError(f"n_1={self.n_1}, n_2={self.n_2}: set 0 <= n_1 < n_2")
            if len(self.lambdas) != len(TIERS):
                raise ValueError(f"lambdas has {len(self.lambdas)} values, one per tier makes {len(TIERS)}")
            if not 0 <= self.alpha <= 1:
                raise ValueError(f"alpha={self.alpha}: set 0 <= alpha <= 1, so that right answers outrank wrong ones")
            shares = self.lambdas if self.split is Split.tiered else []
            shares = [self.fixed_reflection] if self.split is Split.fixed else shares
            # alpha 0 turns the penalties off whatever the split says
            if self.alpha and any(not 0 <= share <= self.alpha for share in shares):
                raise ValueError(f"the reflection shares {shares} must lie between 0 and alpha={self.alpha}")

    def __init__(self, config: Config, weights: Mapping[str, float], max_tokens: int) -> None:
        del max_tokens  # truncation needs no rule of its own: a thought that is cut off is wrong by the gate
        self.config = config
        self.reward = _verdict_name(config.reward, weights)
        self.count = KeywordCounter(config.keywords)

    def shape(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with scores and metrics. Raises RewardError when the pool needs details that are not there."""
        return [self._shaped(group) for group in groups]

    def state_dict(self) -> dict[str, Any]:
        """Empty: nothing is carried from group to group."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def _shaped(self, group: Group) -> Group:
        found = [(i, t.rewards.get(self.reward)) for i, t in enumerate(group.trajectories)]
        verdicts = {i: verdict for i, verdict in found if isinstance(verdict, Value)}
        scores: list[float | None] = [None] * len(group.trajectories)
        trajectories = list(group.trajectories)
        metrics = dict(group.metrics) | {"reward/unscored": 1 - len(verdicts) / max(len(found), 1)}
        if verdicts:
            index = list(verdicts)
            judged = [trajectories[i] for i in index]
            reflections = np.array([self.count(trajectory.text) for trajectory in judged], np.float64)
            lengths = np.array([trajectory.response_length for trajectory in judged], np.float64)
            correct = np.array([self._correct(verdicts[i].score, judged[0]) for i in index])
            pooled = np.array([self._pooled(verdicts[i], own) for i, own in zip(index, correct, strict=True)])
            shaped = shape_group(reflections, lengths, correct, pooled, self.config)
            rows = _rows(shaped, reflections, lengths, correct, pooled)
            for i, verdict, row in zip(index, verdicts.values(), rows, strict=True):
                scores[i] = row["arlcp/reward"]
                extra = _splits(row, trajectories[i], verdict)
                trajectories[i] = replace(trajectories[i], metrics={**trajectories[i].metrics, **row, **extra})
            metrics |= {
                "arlcp/groups_none_correct": float(not correct.any()),
                "arlcp/groups_one_correct": float(correct.sum() == 1),
            }
        return replace(group, trajectories=tuple(trajectories), scores=tuple(scores), metrics=metrics)

    def _correct(self, verdict: float, trajectory: Trajectory) -> bool:
        return finite(verdict, f"reward {self.reward} of {trajectory.prompt_key}") >= self.config.correct_from

    def _pooled(self, verdict: Value, correct: bool) -> bool:
        if self.config.pool is Pool.gated:
            return correct
        if "ungated" not in verdict.details:
            raise RewardError(
                f"shaper.pool=released reads details[ungated], which reward {self.reward} does not give; "
                "fix: wrap its verifier in raylign.recipes.arlcp.ThinkGate, or set shaper.pool=gated"
            )
        return float(verdict.details["ungated"]) >= self.config.correct_from


def shape_group(
    reflections: Float64s,
    lengths: Float64s,
    correct: NDArray[np.bool_],
    pooled: NDArray[np.bool_],
    config: ReflectionPenalty.Config,
) -> Shaped:
    """The equations of the module's docstring for one group of n answers. All arguments are [n]."""
    mean_r, std_r = _statistics(reflections[pooled], config)
    mean_l, std_l = _statistics(lengths[pooled], config)
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


def _statistics(values: Float64s, config: ReflectionPenalty.Config) -> tuple[float, float]:
    if len(values) == 0:
        return 0.0, 1.0  # of no consequence: the gate zeroes every reward
    std = float(values.std(ddof=1)) if len(values) > 1 else config.lone_std
    return float(values.mean()), std


def _reflection_share(tier: NDArray[np.int64], config: ReflectionPenalty.Config) -> Float64s:
    if config.alpha == 0 or config.split is Split.length:
        return np.zeros(len(tier))
    if config.split is Split.reflection:
        return np.full(len(tier), config.alpha)
    if config.split is Split.fixed:
        return np.full(len(tier), config.fixed_reflection)
    return np.asarray(config.lambdas, np.float64)[tier]


def _verdict_name(name: str, weights: Mapping[str, float]) -> str:
    if name and name not in weights:
        why, fix = "is no reward of this run", f"name one of {', '.join(weights)}"
        raise ConfigError([Problem(key="shaper.reward", value=name, why=why, fix=fix)])
    counted = [reward for reward, weight in weights.items() if weight != 0]
    if not name and len(counted) != 1:
        why = f"which of the rewards tells correctness is not clear: {', '.join(counted) or 'none has a weight'}"
        raise ConfigError([Problem(key="shaper.reward", value="", why=why, fix="set shaper.reward=NAME")])
    return name or counted[0]


def _rows(
    shaped: Shaped, reflections: Float64s, lengths: Float64s, correct: NDArray[np.bool_], pooled: NDArray[np.bool_]
) -> list[dict[str, float]]:
    """What is logged of each trajectory, enough to recompute its reward."""
    (mean_r, mean_l), (std_r, std_l) = shaped.means, shaped.stds
    columns = {
        "reflections": reflections,
        "length": lengths,
        "correct": correct,
        "pooled": pooled,
        "tier": shaped.tier,
        "f_reflection": shaped.f_reflection,
        "f_length": shaped.f_length,
        "reward": shaped.reward,
    }
    group = {"mean_reflections": mean_r, "std_reflections": std_r, "mean_length": mean_l, "std_length": std_l}
    return [
        {f"arlcp/{name}": float(column[i]) for name, column in columns.items()}
        | {f"arlcp/{name}": value for name, value in group.items()}
        for i in range(len(reflections))
    ]


def _splits(row: Mapping[str, float], trajectory: Trajectory, verdict: Value) -> dict[str, float]:
    """The same numbers under names that say which answers they are of, so that their means are the splits."""
    side = "right" if row["arlcp/correct"] else "wrong"
    tier = TIERS[int(row["arlcp/tier"])]
    extra = {f"arlcp/tier_{name}": float(name == tier) for name in TIERS}
    for what in ("reflections", "length"):
        extra |= {f"arlcp/{what}_{side}": row[f"arlcp/{what}"], f"arlcp/{what}_{tier}": row[f"arlcp/{what}"]}
    extra["arlcp/truncated"] = float(trajectory.truncated)
    if "format" in verdict.details:
        extra["arlcp/format_failure"] = 1.0 - float(verdict.details["format"])
    return extra
