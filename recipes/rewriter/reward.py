"""The reward of a group of rewrites: r = t + t (lambda_dist r_dist + lambda_div r_div), see `terms`.

group --gate--> S+ --base model--> NLL of the sampled ids after the bare question --> r_dist
                 +---embedder----> vectors of length 1 ----------------------------> r_div
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raylign.actors.judge.chat import ChatModel
from raylign.actors.reward.verdicts import Verdicts
from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import Embedder, RewardFunction, Scope
from raylign.errors import Problem
from raylign.recipes.rewriter.bare import bare_of, expert_ids
from raylign.recipes.rewriter.gate import RIGHT
from raylign.recipes.rewriter.losses import IMPOSSIBLE, Losses, base_problems
from raylign.recipes.rewriter.terms import Weights, spread, terms_of
from raylign.records import Int32s, Prompt, Trajectory, Value

TERMS = ("gate", "distribution", "diversity")  # parts of the score, in a sample's details


class RewriteReward(RewardFunction):
    """Pays samples that pass a gate for being likely under the frozen base model and unlike their passing neighbours.

    The base model scores the very ids that were sampled, after the bare question. Without it the group is Missing.
    Details of a sample: ``passed`` and the gate's own, ``nll`` (per token; null where it is not finite or was not
    asked), ``distribution`` and ``diversity`` (r_dist, r_div), ``paid`` (each term's part of the score). Of the first
    sample, beside its own: ``group`` with ``passing`` (m), ``spread`` (D), ``not_finite`` and ``expert_nll``.
    """

    scope = Scope.GROUP
    judges_text = False  # ids are scored, and a group is compared

    @dataclass
    class Config:
        """The parts, the weights of the terms, and the gate."""

        gate: Node = node(RewardFunction)  # 1: a sample passes
        base: Node = node(ChatModel)
        embedder: Node = node(Embedder)
        distribution: float = 0.35  # lambda_dist
        diversity: float = 0.5  # lambda_div
        soft_gate: float | None = None  # w: r = w t + bonuses of all samples, in place of the hard gate
        max_tokens: int = 4096  # of bare question and rewrite, what follows is not scored

        def __post_init__(self) -> None:
            for name in ("gate", "base", "embedder"):
                if not getattr(self, name):
                    raise ValueError(f"{name} is empty: name a part")
            for name in ("distribution", "diversity", "soft_gate"):
                if (getattr(self, name) or 0.0) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to 0 or more")
            if self.max_tokens < 2:
                raise ValueError(f"max_tokens={self.max_tokens} must be 2 or more")

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The base model must score as many tokens, and every stage that asks must sample groups."""
        findings = Findings()
        findings += base_problems(key, config.max_tokens, run)
        name = key.removeprefix("rewards.").removesuffix(".fn")
        for stage in run.stages:
            if name not in run.asked(stage):
                continue
            settings = vars(stage.config)
            for setting in ("group_size", "samples", *(["eval_samples"] if settings.get("eval_every") else [])):
                alone = settings.get(setting) == 1
                why = f"is no group: alone every sample that passes has the same bonus of {key}"
                fix = f"set stages.{stage.name}.weights to other rewards, or several samples"
                findings.expect(not alone, f"{stage.key}.{setting}", 1, why, fix)
        return findings

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._gate = Verdicts(config.gate, "gate")
        self._losses = Losses(config.base)
        self._embedder: Embedder = build(Embedder, config.embedder, "embedder")
        self._weights = Weights(
            distribution=config.distribution, diversity=config.diversity, soft_gate=config.soft_gate
        )

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value each. Raises ValueError on a sample alone and on samples without ids of their own, JudgeUnavailable
        without the base model or the embedder, RewardError where the gate gives no verdict.
        """
        if len(trajectories) < 2:
            raise ValueError(
                f"prompt {prompt.key}: {len(trajectories)} sample alone is no group, and would be paid a constant "
                "bonus whatever it says; fix: ask about all samples of a prompt in one call"
            )
        ids = [_sampled(prompt, trajectory) for trajectory in trajectories]
        verdicts = self._gate(prompt, trajectories)
        passed = np.array([value.score >= RIGHT for value in verdicts], np.float64)
        compared = self._weights.compared(passed)
        expert = expert_ids(prompt)
        scored = [*(ids[number] for number in compared), expert]
        *losses, expert_nll = self._losses(bare_of(prompt).token_ids, scored, self.config.max_tokens)
        vectors = np.zeros((0, 1))
        if len(compared):
            texts = [answer_text(prompt, trajectories[number]) for number in compared]
            vectors = np.asarray(self._embedder.embed(texts), np.float64)
        terms = terms_of(passed, losses, vectors, self._weights)
        known = dict(zip(compared.tolist(), losses, strict=True))
        group = {
            "passing": int(passed.sum()),
            "spread": spread(vectors),
            "not_finite": int((~np.isfinite(losses)).sum()),
            "expert_nll": _told(expert_nll),
        }
        return [
            Value(
                score=float(terms.reward[number]),
                details={
                    **verdicts[number].details,
                    "passed": float(passed[number]),
                    "nll": _told(known.get(number, IMPOSSIBLE)),
                    "distribution": float(terms.likeness[number]),
                    "diversity": float(terms.apart[number]),
                    "paid": {name: float(getattr(terms, name)[number]) for name in TERMS},
                    **({"group": group} if number == 0 else {}),
                },
            )
            for number in range(len(trajectories))
        ]


def _sampled(prompt: Prompt, trajectory: Trajectory) -> Int32s:
    """The ids of a sample of one call. Raises ValueError on any other."""
    if len(trajectory.calls) != 1 or not len(trajectory.calls[0].token_ids):
        raise ValueError(
            f"prompt {prompt.key}: a sample of {len(trajectory.calls)} calls and {trajectory.response_length} sampled "
            "ids cannot be scored; fix: the run's engines, and a strategy of one call"
        )
    return trajectory.calls[0].token_ids


def _told(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
