"""How unlikely the frozen base model finds a text: the mean negative log-prob of its ids after a question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.client import Judge
from raylign.actors.judge.served import Served
from raylign.actors.judge.verbs import verb_problems
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, Verb
from raylign.errors import NotFinite, Problem
from raylign.records import Int32s
from raylign.tasks import together

IMPOSSIBLE = float("inf")  # of what the base model cannot say, or has no room for
KEPT = 4096  # scores in memory: those of experts' solutions come again


class Losses:
    """l = -1 / |y| sum_t log pi_0(y_t | before, y_<t) of these very ids; y is cut where `room` ends."""

    def __init__(self, base: Node) -> None:
        self._judge = BlockingJudge({"model": base, "cache_entries": KEPT})

    def __call__(self, before: Int32s, texts: Sequence[Int32s], room: int) -> list[float]:
        """Of each text, side by side. Raises JudgeUnavailable without the model; one that is not finite is no error."""
        left = max(0, room - len(before))

        async def loss(judge: Judge, ids: Int32s) -> float:
            if not len(ids):
                return IMPOSSIBLE
            try:
                return -float(np.mean((await judge.score(before, ids)).value, dtype=np.float64))
            except NotFinite:
                return IMPOSSIBLE

        async def work(judge: Judge) -> list[float]:
            return list(await together(*(loss(judge, ids[:left]) for ids in texts)))

        return self._judge(work)


def base_problems(key: str, tokens: int, run: Run) -> list[Problem]:
    """Why the model at ``<key>.base`` cannot score texts of so many tokens, their question included."""
    findings = Findings()
    findings += verb_problems(f"{key}.base", Verb.score, run)
    base = run.parts.get(f"{key}.base")
    if base is None or not issubclass(base.cls, Served):
        return findings
    judge = run.config.judges.get(base.config.name)
    if judge is not None:
        at, why = f"judges.{base.config.name}.max_context", f"has no room for {key}.max_tokens={tokens} and one more"
        findings.expect(judge.max_context > tokens, at, judge.max_context, why, f"set {at}={tokens + 1}")
    return findings
