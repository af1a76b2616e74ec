"""Rows made of calls: contexts of their own, roles, calls that nothing is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scripted_loop import make

from raylign.batch import Batch
from raylign.contracts import RolloutTask, Rows
from raylign.errors import ConfigError, RewardError
from raylign.loop.context_rows import PerContext
from raylign.loop.rows import without_truncated
from raylign.loop.sampling import differs
from raylign.objectives.advantage.group import DrGRPO
from raylign.objectives.shaping import WeightedSum
from raylign.packing import pack
from raylign.records import Group, Prompt, StopReason, Trajectory, Value
from raylign.testing import call, group, rows_of, tiny_run, trajectory

# What prompt() is: ids 1 2 3. Calls sample other ids, so that a row shows what it is made of.
ANSWER = call("a", [50, 51], context_ids=[], role="solver")
CHECK = call("b", [60], context_ids=[9, 8], fresh=True, role="verifier")
MORE = call("c", [52], context_ids=[7], role="solver")
RETRY = call("d", [53, 54], context_ids=[9, 8], fresh=True, role="solver")


def made(*groups: Group, unscored: bool = False) -> Rows:
    return PerContext(PerContext.Config()).rows(groups, unscored)


def told(rows: Rows) -> list[tuple[list[int], list[bool], str]]:
    """(ids, loss mask, role) of each row."""
    batch = rows.batch
    return [
        (batch.row(i, "token_ids").tolist(), batch.row(i, "loss_mask").tolist(), str(batch.roles[i]))
        for i in range(len(batch))
    ]


def test_a_row_for_each_context_and_role() -> None:
    rows = made(group(trajectory(ANSWER, MORE, CHECK, RETRY), scores=[1.0]))
    assert told(rows) == [
        ([1, 2, 3, 50, 51, 7, 52], [False] * 3 + [True, True, False, True], "solver"),
        ([9, 8, 60], [False, False, True], "verifier"),
        ([9, 8, 53, 54], [False, False, True, True], "solver"),
    ]
    assert rows.batch.prompt_lengths.tolist() == [3, 2, 2] and rows.batch.prompts.tolist() == [0, 1, 1]
    assert rows.batch.samples.tolist() == [0, 0, 0] and rows.scores.tolist() == [1, 1, 1]
    assert [place.calls for place in rows.places] == [(0, 1), (2,), (3,)]


def test_roles_in_one_context_have_a_row_each_that_begins_alike() -> None:
    claim = call("e", [70], context_ids=[6], role="judge")
    rows = made(group(trajectory(ANSWER, claim, MORE), scores=[1.0]))
    assert told(rows) == [
        ([1, 2, 3, 50, 51, 6, 70, 7, 52], [False] * 3 + [True] * 2 + [False] * 3 + [True], "solver"),
        ([1, 2, 3, 50, 51, 6, 70], [False] * 6 + [True], "judge"),
    ]
    assert rows.batch.prompts.tolist() == [0, 0], "computed once"
    (micro,) = pack(rows.batch, 1, 100, share_prompts=True)[0]
    assert micro.tokens == 3 + 5 + 3, "the shared prompt, and each row up to what predicts its last token"


def test_a_call_that_is_not_learned_from_is_read_and_no_more() -> None:
    environment = call("f", [80, 81], context_ids=[6], learn=False, role="user")
    rows = made(group(trajectory(ANSWER, environment, MORE), scores=[1.0]))
    assert told(rows) == [
        ([1, 2, 3, 50, 51, 6, 80, 81, 7, 52], [False] * 3 + [True] * 2 + [False] * 4 + [True], "solver")
    ]
    plain = rows_of([group(trajectory(call("a", [50]), call("f", [80], learn=False)), scores=[1.0])])
    assert plain.batch["loss_mask"].tolist() == [False] * 3 + [True, False] and plain.places[0].calls == (0,)


def test_a_trajectory_without_a_call_to_learn_from_keeps_its_score() -> None:
    silent = trajectory(call("f", [80], learn=False, role="user"))
    rows = made(group(silent, trajectory(ANSWER), scores=[1.0, 0.0]))
    assert rows.scores.tolist() == [1, 0] and rows.batch.samples.tolist() == [0, 1]
    assert not rows.batch.row(0, "loss_mask").any() and rows.places[0].calls == ()
    done, _ = DrGRPO(DrGRPO.Config()).assign(rows.batch, rows.scores)
    assert done.row(1, "advantage")[-1] == -0.5


def test_scores_by_role_and_of_trajectories_without_any() -> None:
    both = trajectory(ANSWER, CHECK)
    of_roles = ({"verifier": -1.0}, {}, {})
    whole = group(both, both, trajectory(CHECK), scores=[1.0, None, 0.5], role_scores=of_roles)
    assert made(whole).scores.tolist() == [1, -1, 0.5]
    rows = made(whole, unscored=True)
    np.testing.assert_array_equal(rows.scores, np.array([1, -1, np.nan, np.nan, 0.5], np.float32))
    assert rows.batch.samples.tolist() == [0, 0, 1, 1, 2]


def test_single_calls_with_prompts_of_their_own_are_compared_and_share_what_they_read() -> None:
    solve, verify = call("s", [50], context_ids=[4], fresh=True, role="solver"), CHECK
    rows = made(
        *(
            group(*[trajectory(c) for c in (solve, solve, verify, verify)], scores=[1.0, 0.0, 3.0, 4.0])
            for _ in range(2)
        )
    )
    assert rows.batch.groups.tolist() == [0] * 4 + [1] * 4
    assert rows.batch.prompts.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    done, _ = DrGRPO(DrGRPO.Config(by_role=True)).assign(rows.batch, rows.scores)
    assert done["advantage"][done["loss_mask"]].tolist() == [0.5, -0.5, -0.5, 0.5] * 2
    # The same calls, a row each trajectory: what was not read is cut off by the learner, the number is the same.
    uncut = rows_of([group(*[trajectory(c) for c in (solve, solve, verify, verify)], scores=[1.0, 0.0, 3.0, 4.0])])
    again, _ = DrGRPO(DrGRPO.Config(by_role=True)).assign(uncut.batch, uncut.scores)
    assert again["advantage"][again["loss_mask"]].tolist() == [0.5, -0.5, -0.5, 0.5]
    cut = again.by_context()
    kept = [cut.row(i, "token_ids").tolist() for i in range(len(cut)) if cut.row(i, "loss_mask").any()]
    assert kept == [[4, 50], [4, 50], [9, 8, 60], [9, 8, 60]]


def test_cut_rows_of_one_group_share_only_what_begins_alike_whichever_way_they_are_packed() -> None:
    rows = made(group(trajectory(ANSWER), trajectory(CHECK), trajectory(RETRY), scores=[1.0, 0.0, 0.5])).batch
    for whole_groups in (False, True):
        micros = pack(rows, 1, 100, share_prompts=True, whole_groups=whole_groups)[0]
        seen = {int(index) for micro in micros for index in micro.token_index}
        assert seen == set(np.flatnonzero(rows["loss_mask"]).tolist())
        for micro in micros:
            for target, at in zip(micro.token_index, micro.predict_index, strict=True):
                assert micro.token_ids[at] == rows["token_ids"][target - 1]


def test_one_row_for_several_roles_is_refused() -> None:
    with pytest.raises(
        RewardError, match=r"roles 'solver', 'verifier'.*fix: set rows._target_=raylign.loop.context_rows"
    ):
        rows_of([group(trajectory(ANSWER, CHECK), scores=[1.0])])


def test_truncated_trajectories_carry_no_weight_in_any_row() -> None:
    cut = trajectory(ANSWER, CHECK, stop=StopReason.LENGTH)
    groups = [group(cut, trajectory(ANSWER), scores=[1.0, 0.0])]
    batch = without_truncated(made(*groups), groups).batch
    assert [bool(batch.row(i, "weight").any()) for i in range(3)] == [False, False, True]


def test_arrays_go_with_their_rows_and_have_one_number_for_each() -> None:
    batch = made(group(trajectory(ANSWER, CHECK), trajectory(CHECK), scores=[1.0, 2.0])).batch
    picked = batch.select([2, 0])
    assert picked.samples.tolist() == [1, 0] and picked.roles.tolist() == ["verifier", "solver"]
    with pytest.raises(ValueError, match=r"array role has shape \(2,\), expected \(3,\)"):
        Batch(
            offsets=batch.offsets,
            prompt_lengths=batch.prompt_lengths,
            groups=batch.groups,
            streams=batch.streams,
            arrays={"role": np.array(["a", "b"])},
        )


def test_a_reward_that_scores_roles_makes_a_sum_for_each() -> None:
    shaper = WeightedSum(WeightedSum.Config(), {"task": 1.0, "form": 0.5}, 100)
    worth = Value(score=1.0, roles={"verifier": -1.0})
    whole = group(
        trajectory(ANSWER, CHECK, rewards={"task": worth, "form": 2.0}), trajectory(ANSWER, rewards={"task": 0.0})
    )
    (scored,) = shaper.score([whole])
    assert scored.scores == (2.0, None) and scored.role_scores == ({"solver": 2.0, "verifier": 0.0}, {})
    (plain,) = shaper.score([group(trajectory(ANSWER, rewards={"task": 1.0, "form": 0.0}))])
    assert plain.role_scores == ()


def test_scores_that_differ_between_roles_only_teach_nothing_by_role() -> None:
    apart = group(trajectory(ANSWER), trajectory(ANSWER), trajectory(CHECK), scores=[1.0, 1.0, 0.0])
    assert differs(apart) and not differs(apart, by_role=True)
    within = group(trajectory(ANSWER), trajectory(CHECK), trajectory(CHECK), scores=[1.0, 1.0, 0.0])
    assert differs(within, by_role=True)


async def test_the_loop_learns_by_role_and_says_how_each_role_did() -> None:
    def says(task: RolloutTask, index: int) -> Trajectory:
        role = "solver" if index < 2 else "verifier"
        return trajectory(call("x", [index + 1], context_ids=[4 + (index > 1)], fresh=True, role=role))

    def rule(prompt: Prompt, trajectory: Trajectory) -> Value:
        return Value(score=float(trajectory.sample_index))

    from raylign.testing import FakeRollouts

    loop = make(
        rule,
        group_size=4,
        rollouts=FakeRollouts(says),
        rows=PerContext(PerContext.Config()),
        advantage=DrGRPO(DrGRPO.Config(by_role=True)),
    )
    result = await loop.step(0)
    assert result.batch is not None
    batch, place = result.batch, {role: result.batch.roles == role for role in ("solver", "verifier")}
    for rows in place.values():
        values = sorted({float(batch.row(i, "advantage")[-1]) for i in np.flatnonzero(rows)})
        assert values == [-0.5, 0.5]
    assert result.metrics["role/solver/rule"] == 0.5 and result.metrics["role/verifier/rule"] == 2.5
    assert result.metrics["role/solver/length"] == 1.0


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["variant=ppo"], "advantage.*looks along whole trajectories"),
        (
            ["objective.kl_coef=0.1", "frozen.reference.own_template=true"],
            "frozen.reference.*renders the prompt of a row",
        ),
    ],
)
def test_what_such_rows_cannot_serve_is_refused_when_composing(overrides: Sequence[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        tiny_run("rows._target_=raylign.loop.context_rows.PerContext", *overrides)


def test_roles_that_no_strategy_names_cannot_be_compared() -> None:
    with pytest.raises(
        ConfigError,
        match=r"(?s)advantage\.by_role.*rollout.strategy=SingleTurn names none.*set advantage.by_role",
    ):
        tiny_run("advantage.by_role=true")


def test_equal_scores_teach_where_a_token_has_a_score_that_counts() -> None:
    blamed = (None, np.array([0.0, -1.0, 0.0], np.float32))
    equal = replace(group(trajectory("abc"), trajectory("abd"), scores=[1.0, 1.0]), token_scores={"semantic": blamed})
    assert differs(equal, token_weights={"semantic": 2.0})
    assert not differs(equal) and not differs(equal, token_weights={"semantic": 0.0, "diversity": 1.0})
