"""Scores of single tokens on their way: spans of a reward, the shaper, rows of both kinds, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.actors.reward.outcome import checked
from raylign.actors.reward.wire import pack_outcome, unpack_outcome
from raylign.batch import Batch
from raylign.chat.template import chat_template
from raylign.config.compose import compose
from raylign.contracts import RewardFunction, RewardShaper
from raylign.errors import ConfigError, RewardError
from raylign.loop.context_rows import PerContext
from raylign.loop.rows import PerTrajectory
from raylign.loop.scoring import scored
from raylign.models.tiny import TinyModel, build_tiny_model
from raylign.objectives.selection import subgroup
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Prompt, Span, Trajectory, Value
from raylign.testing import call, group, trajectory

BASE = ["recipe=grpo", "scale=tiny", f"run.allow_targets=[{__name__}]"]


class Banned(RewardFunction):
    """-1 on every token of the word "best"."""

    scores_tokens = True

    @dataclass
    class Config:
        """Nothing to set."""

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        return [Value(score=0.0, spans=tuple(self._spans(said.text) for said in t.calls)) for t in trajectories]

    @staticmethod
    def _spans(text: str) -> tuple[Span, ...]:
        return tuple(Span(place, place + 4, -1.0) for place in range(len(text)) if text.startswith("best", place))


class Deaf(RewardShaper):
    """Knows of no spans."""

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config, **made_with: Any) -> None:
        self.config = config

    def score(self, groups: Sequence[Group]) -> list[Group]:
        return list(groups)


class Speaking(Deaf):
    """Has a score of its own."""

    @classmethod
    def token_scores(cls, config: Any) -> frozenset[str]:
        return frozenset({"repeated"})


@pytest.fixture(scope="module")
def shaper(tmp_path_factory: pytest.TempPathFactory) -> WeightedSum:
    from transformers import AutoTokenizer

    folder = build_tiny_model(TinyModel(), tmp_path_factory.mktemp("tiny"))
    chat = chat_template(AutoTokenizer.from_pretrained(folder))
    return WeightedSum(WeightedSum.Config(), {"banned": 1.0}, max_tokens=64, tokenizer=chat)


def said(shaper: WeightedSum, text: str, **fields: Any) -> Any:
    ids = shaper.tokenizer.codec.encode(text)
    return call(text, [*ids, min(shaper.tokenizer.ends)], **fields)


def judged(one: Trajectory) -> Trajectory:
    (value,) = checked(Banned(Banned.Config()).score(group(one).prompt, [one]), [one])
    return replace(one, rewards={"banned": value} if value else {})


def streams(batch: Batch) -> list[list[float]]:
    return [batch.row(i, "token_score/banned").tolist() for i in range(len(batch))]


def test_a_span_reaches_the_tokens_that_said_it_and_no_other(shaper: WeightedSum) -> None:
    both = group(judged(trajectory(said(shaper, "the best"))), judged(trajectory(said(shaper, "ok"))))
    (done,) = scored(shaper, [both])
    assert done.scores == (0.0, 0.0)
    assert done.token_scores["banned"][0].tolist() == [0, 0, 0, 0, -1, -1, -1, -1, 0]  # type: ignore[union-attr]
    assert done.token_scores["banned"][1] is None
    rows = PerTrajectory(PerTrajectory.Config()).rows([done])
    assert streams(rows.batch) == [[0] * 3 + [0] * 4 + [-1] * 4 + [0], [0] * 6]


def test_in_an_episode_each_call_has_its_own(shaper: WeightedSum) -> None:
    first, second = said(shaper, "a best"), said(shaper, "best b", context_ids=[9, 8])
    (done,) = scored(shaper, [group(judged(trajectory(first, second)))])
    rows = PerTrajectory(PerTrajectory.Config()).rows([done])
    assert streams(rows.batch) == [[0] * 3 + [0, 0] + [-1] * 4 + [0] + [0, 0] + [-1] * 4 + [0] * 3]


def test_a_context_of_its_own_takes_its_part_along(shaper: WeightedSum) -> None:
    first, second = said(shaper, "a best"), said(shaper, "best b", context_ids=[9, 8], fresh=True)
    (done,) = scored(shaper, [group(judged(trajectory(first, second)))])
    rows = PerContext(PerContext.Config()).rows([done])
    assert streams(rows.batch) == [[0] * 3 + [0, 0] + [-1] * 4 + [0], [0, 0] + [-1] * 4 + [0] * 3]


def test_a_group_without_any_has_zeros_beside_one_that_has(shaper: WeightedSum) -> None:
    some = group(judged(trajectory(said(shaper, "best"))))
    none = group(trajectory(said(shaper, "best"), rewards={"banned": 1.0}))
    rows = PerTrajectory(PerTrajectory.Config()).rows(scored(shaper, [some, none]))
    assert streams(rows.batch) == [[0] * 3 + [-1] * 4 + [0], [0] * 8]


def test_a_selection_keeps_those_of_what_it_keeps(shaper: WeightedSum) -> None:
    both = group(judged(trajectory(said(shaper, "ok"))), judged(trajectory(said(shaper, "best"))))
    kept = subgroup(scored(shaper, [both])[0], [1])
    assert kept.token_scores["banned"][0].tolist() == [-1] * 4 + [0]  # type: ignore[union-attr]


def test_spans_come_back_from_an_isolated_reward() -> None:
    values = (Value(score=1.0, spans=((Span(0, 2, -0.5),), ())), Value(score=0.0), None)
    assert unpack_outcome(pack_outcome(values)) == values


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (((Span(0, 9, -1.0),),), "characters 0 to 9 of call 0, whose text has 4"),
        (((Span(2, 2, -1.0),),), "start < end"),
        (((Span(-1, 2, -1.0),),), "start < end"),
        (((Span(0, 1, float("nan")),),), "score of a span of call 0 is nan"),
        (((), ()), "spans of 2 calls for a trajectory of 1"),
    ],
)
def test_spans_outside_what_was_said_are_the_rewards_fault(spans: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked([Value(score=0.0, spans=spans)], [trajectory("best")])


@pytest.mark.parametrize("scores", [np.zeros(3, np.float32), np.full(4, np.nan, np.float32)])
def test_a_shaper_that_scores_other_tokens_is_refused(scores: Any) -> None:
    made = group(trajectory("best"), scores=[1.0])
    wrong = SimpleNamespace(score=lambda groups: [replace(groups[0], token_scores={"banned": (scores,)})])
    with pytest.raises(RewardError, match=r"token scores banned of shape .* the 4 sampled tokens"):
        scored(wrong, [made])  # type: ignore[arg-type]


def problems(*words: str) -> str:
    with pytest.raises(ConfigError) as refused:
        compose([*BASE, *words])
    return str(refused.value)


BANNED = f"rewards.banned={{fn: {{_target_: {__name__}.Banned}}}}"


def test_what_scores_tokens_must_be_weighed(tmp_path: Path) -> None:
    told = problems(f"+{BANNED}")
    assert "advantage.token_weights" in told and "banned" in told and "token_weights.banned=1" in told
    compose([*BASE, f"+{BANNED}", "advantage.token_weights={banned: 2}"])
    compose([*BASE, f"+{BANNED}", "advantage.token_weights={banned: 0}"])


def test_a_weight_of_nothing_is_refused_with_what_was_meant() -> None:
    told = problems(f"+{BANNED}", "advantage.token_weights={baned: 2, banned: 1}")
    assert "advantage.token_weights.baned" in told and "did you mean banned?" in told
    assert "leave it out" in problems("advantage.token_weights={banned: 1}")


def test_an_advantage_that_takes_none_is_refused() -> None:
    told = problems(f"+{BANNED}", "advantage={_target_: raylign.objectives.advantage.turn.TurnAdvantage}")
    assert "advantage.group.GRPO" in told


def test_a_shaper_that_knows_no_spans_is_refused_and_one_with_scores_of_its_own_is_not() -> None:
    told = problems(f"+{BANNED}", f"shaper={{_target_: {__name__}.Deaf}}", "advantage.token_weights={banned: 1}")
    assert "rewards.banned.fn" in told and "makes nothing of it" in told
    compose([*BASE, f"shaper={{_target_: {__name__}.Speaking}}", "advantage.token_weights={repeated: 1}"])
    assert "repeated" in problems(f"shaper={{_target_: {__name__}.Speaking}}")
