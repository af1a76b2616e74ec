r"""G-OPD and ExOPD: on-policy distillation as dense RL, with a reward weight that may exceed 1.

## Paper
arXiv:2602.12125.

## Objective
For a student pi, a frozen teacher pi*, a frozen reference pi_ref and a reward weight lambda::

    max E_{y ~ pi} [ lambda log(pi*(y|x) / pi_ref(y|x)) ] - KL(pi || pi_ref)
    A_t = lambda (log pi*(y_t) - log pi_ref(y_t)) - (log pi_old(y_t) - log pi_ref(y_t))
    loss = - sum_t w_t ratio_t A_t / sum_t 1,    w_t = min(pi_old / pi_rollout, 5), detached

lambda = 1 is plain on-policy distillation: A_t = log pi* - log pi_old, the reference cancels and is not loaded.
lambda < 1 interpolates between reference and teacher; lambda > 1 (ExOPD, 1.25) goes beyond the teacher. The optimum per
prefix is pi proportional to pi*^lambda pi_ref^(1 - lambda). No baseline, no normalisation, no outcome reward in A_t:
verifiable rewards are only logged, and group size 1 is the default.

## Stages
distill; scale=tiny has base (sft) and teacher (rl) in front of it, all in one run. A run needs rollout workers, one
teacher or several routed by domain, a reference unless lambda = 1, a learner, and a verifier for monitoring only. No
critic; a judge only for context distillation from critiques.

## Run it
    raylign train recipe=g_opd scale=tiny
    raylign train recipe=g_opd scale=gpu model.path=Qwen/Qwen3-4B frozen.teacher.path=Qwen/Qwen3-8B data.path=p.jsonl
    raylign train recipe=g_opd scale=node model.path=Qwen/Qwen3-4B data.path=prompts.jsonl \
        data.domain_key=extra_info.opd_teacher '~frozen.teacher' \
        '+frozen.math={stream: teacher_logprob, path: Qwen/Qwen3-8B, domain: math}' \
        '+frozen.code={stream: teacher_logprob, path: Qwen/Qwen3-14B, domain: code}'

The third has several teachers (the domain's column is that of the released data). Domain teachers: ``recipe=grpo
stages.rl.prompts_per_step=128 learner.optim.lr=1e-6`` from the student's start, groups of 8, 500 steps (mathematics) or
300 (code). Strong to weak: ``stages.distill.steps=100``, with reward correction ``frozen.reference.path=<the teacher's
own base>``. A teacher with another chat template, of the same vocabulary: ``frozen.teacher.own_template=true``. Context
distillation: ``advantage.reward_weight=1 frozen.teacher.context={_target_: raylign.recipes.g_opd.context.X}``: the
teacher is the student's frozen start, and reads a reference solution (X = SolutionContext) or a judge's critique of the
answer that it scores (X = CritiqueContext, with url and model of any server with OpenAI's chat completions, key_file).

## Results
The paper's multi-teacher student reaches 47.7 (math) and 62.0 (code) at lambda 1.25 against 46.0 and 61.2 of its
teachers. Measured at scale=tiny (`benchmarks/experiments/g_opd.py`, mean of 2 seeds): base .259, teacher .808, student
.612 at lambda .5, .825 at 1, .857 at 1.25. Two teachers, one seed: .447 and .827 on their own tasks; the student of
both .477 and .883 at 1.25, within .02 of the teachers at 1, .170 and .216 with the teachers swapped.

## Cost
Paper: 50 to 100 steps of 1024 samples up to 16k tokens. scale=tiny: 48 steps of 48 samples, about a second each.

## Deviations
- A prompt of a domain without a teacher is an error; the released code silently takes the math teacher at lambda = 1.
- `advantage.clamp` bounds |A_t| where a frozen model's probability underflows; off, as in the released code [inferred].
- `advantage.discount` is the paper's discount on what follows a token: 0 (the method) looks at the token alone, 1 is
  the exact gradient of the sequence-level objective.
- A sample whose critique is missing is not scored and carries no loss (`distill/unscored`); too many end the run.
- Gradient clipping 1.0 (the platform's default; the authors' value is not published).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.config.resolve import Run
from raylign.contracts import Advantage
from raylign.errors import Problem
from raylign.objectives.aggregate import counted_tokens
from raylign.objectives.kl import LogprobSource
from raylign.records import Float32s

Float64s = NDArray[np.float64]


class TeacherAdvantage(Advantage):
    """Token advantages from the log-probs of student, teacher and reference; scores are not read.

    Reads the streams ``teacher_logprob``, ``old_logprob`` (or the sampler's own log-probs) and, unless the reward
    weight is 1, ``ref_logprob``.
    """

    reads_scores = False

    @dataclass
    class Config:
        """Every choice that changes the number."""

        reward_weight: float = 1.25  # lambda; 1 is on-policy distillation, 0 stays at the reference
        clamp: float | None = None  # |A_t| at most this; null: no bound
        discount: float = 0.0  # weight of the following tokens' terms in a token's advantage
        old: LogprobSource = LogprobSource.recompute  # whose log-prob is log pi_old

        def __post_init__(self) -> None:
            if not (self.reward_weight >= 0 and math.isfinite(self.reward_weight)):
                raise ValueError(f"reward_weight={self.reward_weight}: set it to 0 or more")
            if self.clamp is not None and self.clamp <= 0:
                raise ValueError(f"clamp={self.clamp} must be positive, or null")
            if not 0 <= self.discount <= 1:
                raise ValueError(f"discount={self.discount}: set it between 0 and 1")

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """A teacher that is the student itself teaches nothing."""
        del key, config
        teachers = {name: frozen for name, frozen in run.config.frozen.items() if frozen.stream == "teacher_logprob"}
        if not teachers:
            why, fix = "no frozen model is a teacher", "add frozen.teacher={stream: teacher_logprob, path: MODEL}"
            return [Problem(key="frozen", value=", ".join(run.config.frozen), why=why, fix=fix)]
        fix = "name the teacher's folder, or @NAME for what stage NAME made"
        return [
            Problem(key=f"frozen.{name}.path", value="", why="the teacher would be the student itself", fix=fix)
            for name, frozen in teachers.items()
            if not (frozen.path or frozen.context)
        ]

    @property
    def needs(self) -> frozenset[str]:
        """``teacher_logprob``; ``old_logprob`` unless the sampler's are used; ``ref_logprob`` unless lambda is 1."""
        old = {"old_logprob"} if self.config.old is LogprobSource.recompute else set()
        reference = {"ref_logprob"} if self.config.reward_weight != 1 else set()
        return frozenset({"teacher_logprob"} | old | reference)

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        """Fill `advantage`; 0 off the loss mask. A row that the teacher could not score (NaN throughout: the context of
        its sample is missing) gets weight 0. Raises ValueError when any other log-prob is not finite.
        """
        del scores  # the signal is dense; verifiable scores are for monitoring
        lost = _unscored(batch)
        gone = lost[batch.row_of_token]
        batch = batch.with_streams(weight=np.where(gone, 0, batch["weight"]).astype(np.float32))
        mask = np.asarray(batch["loss_mask"], bool) & ~gone
        old = batch["old_logprob" if self.config.old is LogprobSource.recompute else "sampler_logprob"]
        streams = {"old": old, "teacher": batch["teacher_logprob"]}
        if self.config.reward_weight != 1:
            streams["ref"] = batch["ref_logprob"]
        exact = {name: np.where(mask, np.asarray(stream, np.float64), 0.0) for name, stream in streams.items()}
        for name, stream in exact.items():
            if not np.isfinite(stream).all():
                raise ValueError(f"the {name} log-prob of a sampled token is not finite")
        advantage = token_advantage(exact["old"], exact["teacher"], exact.get("ref"), self.config.reward_weight)
        if self.config.discount:
            advantage = _discounted(advantage, batch, self.config.discount)
        metrics = _metrics(advantage, exact, counted_tokens(batch)) | {"distill/unscored": float(lost.mean())}
        if self.config.clamp is not None:
            advantage = np.clip(advantage, -self.config.clamp, self.config.clamp)
        return batch.with_streams(advantage=advantage.astype(np.float32)), metrics


def _unscored(batch: Batch) -> NDArray[np.bool_]:
    """[B] rows whose teacher log-prob is NaN on every loss token."""
    mask = np.asarray(batch["loss_mask"], bool)
    tokens, absent = (
        np.bincount(batch.row_of_token[which], minlength=len(batch))
        for which in (mask, mask & np.isnan(batch["teacher_logprob"]))
    )
    return (absent > 0) & (absent == tokens)


def token_advantage(old: Float64s, teacher: Float64s, ref: Float64s | None, reward_weight: float) -> Float64s:
    """A_t = lambda (log pi* - log pi_ref) - (log pi_old - log pi_ref); at lambda = 1 without any reference."""
    if reward_weight == 1 or ref is None:
        return teacher - old
    return reward_weight * (teacher - ref) - (old - ref)


def _discounted(values: Float64s, batch: Batch, discount: float) -> Float64s:
    """[N] sum over t' >= t of the row of discount^(number of loss tokens between) times the value at t'."""
    result = np.zeros_like(values)
    mask = np.asarray(batch["loss_mask"], bool)
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        following = 0.0
        for position in range(end - 1, start - 1, -1):
            if mask[position]:
                following = result[position] = values[position] + discount * following
    return result


def _metrics(advantage: Float64s, streams: Mapping[str, Float64s], counted: NDArray[np.bool_]) -> dict[str, float]:
    """What is worth watching: an inflated implicit reward on few tokens is how lambda > 1 is hacked."""
    if not counted.any():
        return {}
    gap = streams["old"][counted] - streams["teacher"][counted]
    metrics = {
        "distill/advantage": float(advantage[counted].mean()),
        "max/distill/advantage": float(np.abs(advantage[counted]).max()),
        "distill/student_teacher_kl": float(gap.mean()),  # k1 estimate of KL(student || teacher) per token
        "max/distill/log_ratio": float(np.abs(gap).max()),
    }
    if "ref" in streams:
        reward = streams["teacher"][counted] - streams["ref"][counted]
        metrics |= {
            "distill/implicit_reward": float(reward.mean()),
            "distill/implicit_reward_p99": float(np.percentile(reward, 99)),
            "max/distill/implicit_reward": float(reward.max()),
            "max/distill/implicit_reward_abs": float(np.abs(reward).max()),
        }
    return metrics
