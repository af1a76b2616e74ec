"""Graders are asked about copies without rewards; what fails is missing and counted, never low and never the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from raylign.audit.auditor import Auditor
from raylign.audit.graded import EXPLOIT, with_grades
from raylign.config.schema import AuditConfig, ExploitConfig
from raylign.contracts import RewardFunction, Scope
from raylign.errors import RewardError
from raylign.payloads import put
from raylign.records import Absent, Group, Missing, Payload, Prompt, Reward, Trajectory, Value
from raylign.testing import FakeRewards, group, prompt, trajectory

ALL = AuditConfig(share=1.0, exploit=ExploitConfig(start_samples=8))


def groups_of(step: int, texts: Sequence[str], scores: Sequence[float | None], domain: str = "") -> list[Group]:
    samples = [trajectory(text, rewards={"right": 0.0}) for text in texts]
    return [group(*samples, prompt=prompt(step, domain=domain), scores=scores)]


def auditor(rule: Any, settings: AuditConfig = ALL, **given: Any) -> Auditor:
    return Auditor(FakeRewards({"judge": rule}), {"judge": 1.0}, settings, seed=1, **given)


def good(_: Prompt, sample: Trajectory) -> Reward:
    return Value(score=float("good" in sample.text))


def unreachable(_: Prompt, sample: Trajectory) -> Reward:
    return Missing(reason="the judge did not answer")


async def begun(audit: Auditor, domain: str = "") -> None:
    """A start of 30 % right, of reward and grade alike."""
    await audit.training(1, groups_of(1, ["good"] * 3 + ["bad"] * 7, [1.0] * 3 + [0.0] * 7, domain))


async def test_a_graders_failure_is_missing_and_neither_low_nor_an_exploit() -> None:
    audit = auditor(unreachable)
    for step in range(1, 6):
        audited = await audit.training(step, groups_of(step, ["good"] * 10, [1.0] * 10))
        assert audited.metrics["audit/missing/judge"] == 1.0 and audited.metrics["audit/samples"] == 10.0
        assert not [name for name in audited.metrics if name.startswith(("audit/exploit", "audit/grade", "audit/unb"))]
        assert all(graded.exploit is None for graded in audited.graded)


async def test_a_grader_that_fails_on_what_is_bad_leaves_the_rest_as_it_is() -> None:
    def half(asked: Prompt, sample: Trajectory) -> Reward:
        return good(asked, sample) if "good" in sample.text else unreachable(asked, sample)

    audited = await auditor(half).training(1, groups_of(1, ["good"] * 6 + ["bad"] * 4, [1.0] * 10))
    assert audited.metrics["audit/missing/judge"] == 0.4 and audited.metrics["audit/grade/judge"] == 1.0


class Ended:
    """Pools whose actors are gone for good."""

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        raise RewardError("grader judge: the pool was closed")

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        raise RewardError("grader judge: the pool was closed")


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_pool_that_has_ended_ends_no_run(grouped: bool) -> None:
    audit = Auditor(Ended(), {"judge": 1.0}, ALL, seed=1, grouped=grouped)
    audited = await audit.training(1, groups_of(1, ["good"] * 4, [1.0] * 4))
    assert audited.metrics["audit/missing/judge"] == 1.0
    assert {graded.grades["judge"] for graded in audited.graded} == {
        Missing(reason="grader judge: the pool was closed")
    }


async def test_a_fault_of_the_audit_itself_is_no_missing_grade() -> None:
    def broken(_: Prompt, sample: Trajectory) -> Reward:
        raise ZeroDivisionError("a fault of the fake, as one of the auditor would be")

    with pytest.raises(ZeroDivisionError):
        await auditor(broken).training(1, groups_of(1, ["good"], [1.0]))


async def test_a_grader_that_does_not_apply_is_neither_missing_nor_low() -> None:
    audited = await auditor(lambda asked, sample: Absent()).training(1, groups_of(1, ["x"] * 3, [1.0] * 3))
    assert "audit/missing/judge" not in audited.metrics and "audit/grade/judge" not in audited.metrics


async def test_graders_see_no_reward_and_payloads_with_their_content() -> None:
    seen: list[Trajectory] = []

    def look(_: Prompt, sample: Trajectory) -> Reward:
        seen.append(sample)
        return Value(score=1.0)

    (plain,) = groups_of(1, ["x"] * 2, [1.0] * 2)
    image = put(Payload(kind="image", content=np.arange(4)))
    drawn = tuple(replace(sample, payload={"image": image}) for sample in plain.trajectories)
    await auditor(look).training(1, [replace(plain, trajectories=drawn)])
    assert len(seen) == 2 and all(sample.rewards == {} for sample in seen)
    assert all(isinstance(sample.payload["image"], Payload) for sample in seen)
    assert drawn[0].rewards, "training's own are untouched"


async def test_a_sample_without_a_training_reward_is_graded_and_not_judged() -> None:
    audit = auditor(good)
    await begun(audit)
    audited = await audit.training(2, groups_of(2, ["bad", "bad"], [None, 1.0]))
    assert [graded.exploit for graded in audited.graded] == [None, True]
    assert audited.metrics["audit/exploit/judge"] == 1.0


async def test_every_domain_has_a_start_of_its_own() -> None:
    audit = auditor(good, several=True)
    await begun(audit, "sums")
    cheap = groups_of(2, ["bad"] * 4, [1.0] * 4, "sums") + groups_of(3, ["bad"] * 4, [90.0] * 4, "essays")
    audited = await audit.training(2, cheap)
    assert audited.metrics["audit/exploit/judge/sums"] == 1.0
    assert "audit/exploit/judge/essays" not in audited.metrics, "its start is not known yet"
    assert audited.metrics["audit/first_appearance/judge/sums"] == 2.0
    assert [graded.exploit for graded in audited.graded] == [True] * 4 + [None] * 4


async def test_any_grader_flags_a_sample() -> None:
    rules = {"judge": good, "rule": lambda asked, sample: Value(score=1.0)}
    audit = Auditor(FakeRewards(rules), {"judge": 1.0, "rule": 1.0}, ALL, seed=1)
    await begun(audit)
    audited = await audit.training(2, groups_of(2, ["bad", "good"], [1.0, 1.0]))
    assert [graded.exploit for graded in audited.graded] == [True, False]
    assert (audited.metrics["audit/exploit/judge"], audited.metrics["audit/exploit/rule"]) == (0.5, 0.0)


class Longest(RewardFunction):
    """Of a group the longest sample is good."""

    scope = Scope.GROUP

    @dataclass
    class Config:
        """Nothing to set."""

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        most = max(len(sample.text) for sample in trajectories)
        return [Value(score=float(len(sample.text) == most)) for sample in trajectories]


async def test_a_grader_of_groups_gets_whole_ones() -> None:
    audit = Auditor(
        FakeRewards({"longest": Longest(Longest.Config())}),
        {"longest": 1.0},
        AuditConfig(share=0.5),
        seed=1,
        grouped=True,
    )
    groups = [each for step in range(4) for each in groups_of(step, ["a", "aa", "aaa"], [0.0] * 3)]
    audited = await audit.training(1, groups)
    assert audited.metrics["audit/samples"] == 6.0, "two of four groups"
    grades = [graded.grades["longest"] for graded in audited.graded]
    assert [grade.score for grade in grades if isinstance(grade, Value)] == [0.0, 0.0, 1.0] * 2


async def test_what_is_shown_has_the_grades_and_what_was_trained_on_has_not() -> None:
    audit = auditor(good)
    await begun(audit)
    groups = groups_of(2, ["bad", "good"], [1.0, 1.0]) + groups_of(3, ["bad"], [1.0])
    audited = await audit.training(2, groups)
    shown = with_grades(groups[:1], audited)
    assert [t.metrics.get(EXPLOIT) for t in shown[0].trajectories] == [1.0, 0.0]
    assert shown[0].trajectories[0].rewards["audit/judge"] == Value(score=0.0)
    assert len(shown) == 2 and shown[1].prompt.key == "p3#0", "what no row was made of stands behind the others"
    assert with_grades(groups, None) == groups
    assert all("audit/judge" not in t.rewards and not t.metrics for each in groups for t in each.trajectories)


async def test_an_evaluation_that_stands_alone_is_graded_and_not_judged() -> None:
    audited = await auditor(good).grades(groups_of(1, ["good"] * 6 + ["bad"] * 6, [1.0] * 12))
    assert audited.metrics["audit/grade/judge"] == 0.5 and not audited.news
    assert set(audited.metrics) == {"audit/samples", "audit/share", "audit/missing/judge", "audit/grade/judge"}


async def test_held_out_samples_have_a_start_and_a_budget_of_their_own() -> None:
    audit = auditor(good)
    await begun(audit)
    first = await audit.held_out(2, groups_of(9, ["good"] * 9, [5.0] * 9))
    later = await audit.held_out(4, groups_of(9, ["bad"] * 4, [6.0] * 4))
    assert [graded.exploit for graded in first.graded] == [False] * 9
    assert later.metrics["audit/exploit/judge"] == 1.0 and later.metrics["audit/first_appearance/judge"] == 4.0
    assert {news.kind for news in later.news} == {"exploit_appeared"} and later.news[0].facts["held_out"]


async def test_what_an_evaluation_is_too_small_for_is_no_room_for_training() -> None:
    audit = auditor(good, AuditConfig(share=0.5))
    training = await audit.training(1, groups_of(1, ["x"] * 11, [0.0] * 11))
    held_out = await audit.held_out(1, groups_of(2, ["x"] * 9, [0.0] * 9))
    assert [a.metrics["audit/samples"] for a in (training, held_out)] == [5.0, 4.0]
    assert held_out.metrics["audit/share"] == 4 / 9


async def test_news_are_told_once() -> None:
    audit = auditor(good)
    first = await audit.training(1, groups_of(1, ["good"] * 3 + ["bad"] * 7, [1.0] * 3 + [0.0] * 7))
    assert [news.kind for news in first.news] == ["audit_start"] and first.news[0].facts["reward_from"] == 1.0
    second = await audit.training(2, groups_of(2, ["bad"], [1.0]))
    assert [news.kind for news in second.news] == ["exploit_appeared"] and "step 2" in second.news[0].message
    assert not (await audit.training(3, groups_of(3, ["bad"], [1.0]))).news
    flat = await auditor(lambda asked, sample: 0.0).training(1, groups_of(1, ["x"] * 9, [1.0] * 9))
    assert "tells nothing apart" in flat.news[0].message


async def test_scores_that_are_centred_within_their_groups_leave_the_alarm_blind_and_that_is_said() -> None:
    def step(shift: float) -> list[Group]:
        return [each for n in range(8) for each in groups_of(n, ["good", "bad"], [1.0 + shift, -1.0 + shift])]

    audit = auditor(good)
    assert not [news for news in (await audit.training(1, step(0.1))).news if news.kind == "audit_centred"]
    (news,) = [news for news in (await audit.training(2, step(0.0))).news if news.kind == "audit_centred"]
    assert "their alarm is blind" in news.message
    assert not [news for news in (await audit.training(3, step(0.0))).news if news.kind == "audit_centred"], "once"
    flat = [each for n in range(8) for each in groups_of(n, ["good", "bad"], [0.0, 0.0])]
    assert not [news for news in (await auditor(good).training(1, flat)).news if news.kind == "audit_centred"]
