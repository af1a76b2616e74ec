"""The reward of a group of rewrites: r = t + t (lambda_dist r_dist + lambda_div r_div), see `terms`.

group --gate--> S+ --base model--> NLL of the sampled ids after the bare question --> r_dist
                 +---embedder----> vectors of length 1 ----------------------------> r_div
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.chat import ChatModel
from raylign.actors.judge.client import Judge
from raylign.actors.judge.served import Served
from raylign.actors.judge.verbs import verb_problems
from raylign.actors.reward.verdicts import Verdicts
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, Verb, node
from raylign.contracts import Embedder, RewardFunction, Scope
from raylign.errors import NotFinite, Problem
from raylign.recipes.rewriter.bare import bare_of, expert_ids
from raylign.recipes.rewriter.gate import RIGHT
from raylign.recipes.rewriter.terms import Weights, spread, terms_of
from raylign.records import Int32s, Prompt, Trajectory, Value
from raylign.tasks import together

IMPOSSIBLE = float("inf")  # NLL of what the base model cannot say, or has no room for
TERMS = ("gate", "distribution", "diversity")  # parts of the score, in a sample's details
KEPT = 4096  # scores in memory: those of experts' solutions come again


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
        findings += verb_problems(f"{key}.base", Verb.score, run)
        base = run.parts.get(f"{key}.base")
        judge = run.config.judges.get(base.config.name) if base and issubclass(base.cls, Served) else None
        if judge is not None:
            at, least = f"judges.{base.config.name}.max_context", config.max_tokens + 1  # type: ignore[union-attr]
            why = f"has no room for {key}.max_tokens={config.max_tokens} and a token more"
            findings.expect(judge.max_context >= least, at, judge.max_context, why, f"set {at}={least}")
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
        self._judge = BlockingJudge({"model": config.base, "cache_entries": KEPT})
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
        *losses, expert_nll = self._losses(prompt, [*(ids[number] for number in compared), expert])
        vectors = np.zeros((0, 1))
        if len(compared):
            vectors = np.asarray(self._embedder.embed([trajectories[number].text for number in compared]), np.float64)
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

    def _losses(self, prompt: Prompt, texts: Sequence[Int32s]) -> list[float]:
        """Mean NLL of the tokens of each after the bare question; infinite where the base model gives no finite one."""
        before = bare_of(prompt).token_ids
        room = max(0, self.config.max_tokens - len(before))

        async def loss(judge: Judge, ids: Int32s) -> float:
            if not len(ids):
                return IMPOSSIBLE
            try:
                return -float(np.mean((await judge.score(before, ids)).value, dtype=np.float64))
            except NotFinite:
                return IMPOSSIBLE

        async def work(judge: Judge) -> list[float]:
            return list(await together(*(loss(judge, ids[:room]) for ids in texts)))

        return self._judge(work)


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
