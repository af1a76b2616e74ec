"""Asks graders about a share of all samples, beside training, and says where rewards are high and grades low.

    step's groups --seeded share--> graders --grades--+
         (copies without rewards)                     v
    step's scores ----------------------------> watches, one a grader and domain --> flags, metrics, news

Nothing here is read by a shaper, a selector, a source or an advantage, and no draw depends on it: with or without an
audit a run ends with the same weights, bit for bit. A grader that fails makes a grade missing: counted, told by an
alarm, never a low grade, and never the end of a run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raylign.audit.choice import Budget
from raylign.audit.graded import Audited, Graded, News
from raylign.audit.news import CENTRED, centred, news_of
from raylign.audit.watch import Measured, Verdict, Watch
from raylign.config.schema import AuditConfig
from raylign.contracts import RewardPools
from raylign.errors import RewardError
from raylign.payloads import whole
from raylign.records import Absent, Group, Missing, Reward, Trajectory, Value
from raylign.tasks import owned, together

if TYPE_CHECKING:
    from raylign.loop import StepResult

Place = tuple[int, int]  # group, trajectory
HELD_OUT = "held_out"


class Auditor:
    """Of one stage. graders: their pools; maxima: by grader, what it gives a perfect sample; grouped: some grader
    judges all samples of a prompt at once, so that whole groups are chosen; several: there is more than one domain, and
    each has a start of its own.
    """

    def __init__(
        self,
        graders: RewardPools,
        maxima: Mapping[str, float],
        settings: AuditConfig,
        *,
        seed: int,
        grouped: bool = False,
        several: bool = False,
    ) -> None:
        self._graders, self._maxima, self._settings = graders, dict(maxima), settings
        self._grouped, self._several = grouped, several
        self._budgets = {name: Budget(share=settings.share, seed=seed) for name in ("training", HELD_OUT)}
        self._centred_told = False
        self._watches: dict[tuple[str, str, str], Watch] = {}  # by kind of samples, grader and domain

    async def training(self, step: int, groups: Sequence[Group]) -> Audited:
        """Of all groups that were sampled for a step (from 1), scored as training scores them."""
        audited = await self._audit("training", step, groups)
        if self._centred_told or not centred(groups):
            return audited
        self._centred_told = True
        return replace(audited, news=[*audited.news, CENTRED])

    async def beside(self, step: int, groups: Sequence[Group], learning: Coroutine[Any, Any, StepResult]) -> StepResult:
        """What a step (from 1) learns, and beside that the audit of its groups; the step then lasts to both ends."""
        async with owned() as owner:
            audit = owner.create_task(self.training(step, groups))
            result = await learning
            waiting = time.perf_counter()
            audited = result.audited = await audit
        result.metrics |= {**audited.metrics, "time/audit_tail": time.perf_counter() - waiting}
        return result

    async def held_out(self, step: int, groups: Sequence[Group]) -> Audited:
        """Of an evaluation after a step; judged by what the first evaluations of the stage came to."""
        return await self._audit(HELD_OUT, step, groups)

    async def grades(self, groups: Sequence[Group]) -> Audited:
        """Of an evaluation that stands alone: grades, and nothing to judge them by."""
        return await self._audit(HELD_OUT, 0, groups, judge=False)

    def state_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "budgets": {kind: budget.state_dict() for kind, budget in self._budgets.items()},
            "watches": [[list(key), watch.state_dict()] for key, watch in self._watches.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave. What graders that are gone have seen is forgotten."""
        for kind, budget in self._budgets.items():
            budget.load_state_dict(state["budgets"][kind])
        for (kind, grader, domain), of_watch in state["watches"]:
            if grader in self._maxima:
                self._watch(kind, grader, domain).load_state_dict(of_watch)

    async def _audit(self, kind: str, step: int, groups: Sequence[Group], judge: bool = True) -> Audited:
        budget = self._budgets[kind]
        places = budget.choose(groups, self._grouped)
        asked = await self._ask(groups, places)
        metrics = {"audit/samples": float(len(places)), "audit/share": budget.asked / max(1, budget.sampled)}
        metrics |= self._missing(asked)
        graded = {place: Graded(group=place[0], trajectory=place[1], grades=grades) for place, grades in asked.items()}
        news: list[News] = []
        for grader in self._maxima:
            for domain in self._domains(groups, kind, grader):
                measured = _measured(grader, domain if self._several else None, groups, asked, bool(judge))
                name = f"{grader}/{domain}" if self._several else grader
                figures, verdicts, told = self._judged(kind, step, (grader, domain), measured, judge)
                metrics |= {f"audit/{figure}/{name}": value for figure, value in figures.items()}
                news += told
                for place, verdict in verdicts.items():
                    graded[place] = _flagged(graded[place], verdict)
        return Audited(groups=groups, graded=list(graded.values()), metrics=metrics, news=news)

    def _judged(
        self, kind: str, step: int, of: tuple[str, str], measured: Mapping[Place, Measured], judge: bool
    ) -> tuple[dict[str, float], dict[Place, Verdict], list[News]]:
        """Figures, verdicts and news of one grader in one domain."""
        values = list(measured.values())
        if not judge:
            return ({"grade": float(np.mean([each.grade for each in values]))} if values else {}), {}, []
        watch = self._watch(kind, *of)
        before = watch.milestones
        verdicts = watch.step(step, values)
        judged = {place: verdict for place, verdict in zip(measured, verdicts, strict=True) if verdict is not None}
        told = news_of(watch, before, of[0], of[1], kind == HELD_OUT)
        return watch.metrics(values, verdicts), judged, told

    def _watch(self, kind: str, grader: str, domain: str) -> Watch:
        key = (kind, grader, domain)
        if key not in self._watches:
            self._watches[key] = Watch(self._settings.exploit, self._maxima[grader])
        return self._watches[key]

    def _domains(self, groups: Sequence[Group], kind: str, grader: str) -> list[str]:
        """Those of the groups, and those that were watched before: their figures stand in every line."""
        if not self._several:
            return [""]
        known = {domain for watched, of, domain in self._watches if (watched, of) == (kind, grader)}
        return sorted(known | {group.prompt.domain for group in groups})

    def _missing(self, asked: Mapping[Place, Mapping[str, Reward]]) -> dict[str, float]:
        """``audit/missing/NAME``: share of the grades of those that a grader applies to."""
        shares = {}
        for grader in self._maxima:
            grades = [grades[grader] for grades in asked.values() if not isinstance(grades[grader], Absent)]
            if grades:
                shares[f"audit/missing/{grader}"] = float(np.mean([isinstance(grade, Missing) for grade in grades]))
        return shares

    async def _ask(self, groups: Sequence[Group], places: Sequence[Place]) -> dict[Place, dict[str, Reward]]:
        """All graders about these samples, none of which carries a reward."""
        bare = await asyncio.to_thread(_bare, groups, places)
        single = await together(*(self._single(groups[group], bare[group, index]) for group, index in places))
        asked = dict(zip(places, single, strict=True))
        if self._grouped:
            numbers = sorted({group for group, _ in places})
            of_groups = await together(*(self._group(groups[number], number, bare) for number in numbers))
            for grades in of_groups:
                for place, own in grades.items():
                    asked[place] |= own
        return {place: self._complete(grades) for place, grades in asked.items()}

    async def _single(self, group: Group, trajectory: Trajectory) -> dict[str, Reward]:
        try:
            return dict(await self._graders.score(group.prompt, trajectory))
        except RewardError as cause:  # the pool has ended: its grades are missing, as those of one that fails
            return self._lost(cause)

    async def _group(
        self, group: Group, number: int, bare: Mapping[Place, Trajectory]
    ) -> dict[Place, dict[str, Reward]]:
        places = [(number, index) for index in range(len(group.trajectories))]
        try:
            grades = await self._graders.score_group(group.prompt, [bare[place] for place in places])
        except RewardError as cause:
            return {place: self._lost(cause) for place in places}
        return {place: dict(own) for place, own in zip(places, grades, strict=True)}

    def _lost(self, cause: RewardError) -> dict[str, Reward]:
        return {name: Missing(reason=str(cause)) for name in self._maxima}

    def _complete(self, grades: Mapping[str, Reward]) -> dict[str, Reward]:
        """A grade by every grader."""
        return {name: grades.get(name, Missing(reason="its pool gave no grade")) for name in self._maxima}


def _bare(groups: Sequence[Group], places: Sequence[Place]) -> dict[Place, Trajectory]:
    """The samples as a reward first sees them: payloads with their content, and no rewards."""
    return {(group, index): replace(whole(groups[group].trajectories[index]), rewards={}) for group, index in places}


def _measured(
    grader: str, domain: str | None, groups: Sequence[Group], asked: Mapping[Place, Mapping[str, Reward]], scored: bool
) -> dict[Place, Measured]:
    """The samples of a domain (None: of all) with a grade, and where they must be `scored` with a training reward."""
    measured = {}
    for (number, index), grades in asked.items():
        group, grade = groups[number], grades[grader]
        score = group.scores[index] if group.scores else None
        if domain not in (None, group.prompt.domain) or not isinstance(grade, Value):
            continue
        if score is not None or not scored:
            measured[number, index] = Measured(float("nan") if score is None else float(score), float(grade.score))
    return measured


def _flagged(graded: Graded, verdict: Verdict) -> Graded:
    """With one more grader's verdict."""
    gap = verdict.gap if graded.gap is None else max(graded.gap, verdict.gap)
    return replace(graded, exploit=bool(graded.exploit) or verdict.exploit, gap=gap)
