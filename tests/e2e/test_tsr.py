"""TSR through the command line: random play, then PPO on what a beam found; GRPO on best-of-N; killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=tsr",
    "scale=tiny",
    "seed=3",
    "model.tiny.hidden_size=32",
    "model.tiny.heads=1",
    "model.tiny.kv_heads=1",
    "model.tiny.intermediate_size=64",
    "model.tiny.init_std=0.1",
    "data.size=4",
    "stages.warmup.steps=40",
    "stages.warmup.batch_size=32",
    "stages.warmup.episodes=4",
    "stages.warmup.optim.lr=1e-2",
    "stages.rl.steps=3",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=4",
    "stages.rl.eval_every=0",
    "stages.after.samples=2",
    "selector={_target_: raylign.objectives.selection.VarianceFilter, ratio: 0.5}",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
    "run.save_every=2",
    "+audit.graders.success.fn={_target_: raylign.actors.reward.episode.EpisodeReturn, earned: flag}",
    "audit.share=0.5",
]
PPO = ["environment=frozen_lake", "stages.rl.strategy.simulations=2"]
GRPO = "advantage={_target_: raylign.objectives.advantage.group.GRPO}"


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tsr") / "whole"
    train(folder, [*SMALL, *PPO], keep={folder.with_name("killed"): ("rl", "learn", 2)})
    return folder


def rollouts(folder: Path, stage: str) -> list[dict[str, Any]]:
    rows = [row for path in sorted((folder / "rollouts").glob("*.jsonl")) for row in lines(path)]
    return [row for row in rows if row["stage"] == stage]


def test_every_figure_of_the_digest_is_logged(ppo: Path) -> None:
    names = set().union(*steps(ppo, "rl"))
    search = ("env_calls_kept", "env_calls_discarded", "tokens_kept", "tokens_discarded", "gain", "ties", "undecided")
    wanted = {f"search/{name}" for name in (*search, "invalid", "gap", "gap_squared", "optimism")}
    select = ("groups", "trajectories", "tokens")
    wanted |= {f"select/{name}_{what}" for name in select for what in ("kept", "discarded")}
    wanted |= {f"select/{name}_{when}" for name in ("std", "zero_variance") for when in ("before", "after")}
    wanted |= {"episode/success", "episode/turns", "episode/return", "time/generate", "time/learn", "critic/loss/value"}
    assert not wanted - names


def test_a_group_filter_and_a_search_of_the_command_line(ppo: Path) -> None:
    for step in steps(ppo, "rl"):
        assert (step["select/groups_kept"], step["select/groups_discarded"]) == (2, 2)
        assert step["search/tokens_discarded"] > step["search/tokens_kept"]
        assert step["search/gain"] >= 0
    trained = [row for row in rollouts(ppo, "rl") if row["advantage"] is not None]
    assert len(trained) == 3 * 2 * 4
    for row in trained:
        assert row["score"] == pytest.approx(sum(turn["reward"] for turn in row["turns"]), abs=1e-6)


def test_evaluations_do_not_search(ppo: Path) -> None:
    (metrics,) = steps(ppo, "after")
    assert "eval/episode/success" in metrics
    assert not [name for name in metrics if "search/" in name]
    assert metrics["eval/prompts"] == 4


def test_episodes_are_audited_also_those_that_a_filter_leaves_out(ppo: Path) -> None:
    for step in steps(ppo, "rl"):
        assert (step["audit/samples"], step["audit/share"]) == (8, 0.5) and step["audit/missing/success"] == 0
    audited = [row for row in rollouts(ppo, "rl") if "audit/success" in row["rewards"]]
    assert len(audited) == 3 * 8 and {row["advantage"] is None for row in audited} == {True, False}
    for row in audited:
        flag = row["turns"][-1]["flags"]["success"]
        assert row["rewards"]["audit/success"]["score"] == float(flag) and len(row["turns"]) >= 1
    (after,) = steps(ppo, "after")
    assert after["eval/audit/samples"] == 4 and "eval/audit/grade/success" in after


def test_killed_and_resumed_is_bit_equal(ppo: Path) -> None:
    folder = ppo.with_name("killed")
    assert len(steps(folder, "rl")) == 2
    train(folder, [*SMALL, *PPO], cold=True)
    assert weights(folder, "rl") == weights(ppo, "rl")
    audits = [
        [{k: v for k, v in step.items() if k.startswith("audit/")} for step in steps(f, "rl")] for f in (ppo, folder)
    ]
    assert audits[0] == audits[1]


def test_grpo_on_the_best_of_a_group(tmp_path: Path) -> None:
    """The released best-of-N on Sokoban, without a critic."""
    drop = [item for item in SMALL if not item.startswith("selector=")]
    train(tmp_path / "run", [*drop, GRPO, "search=code_bon", "selector.keep=2", "~stages.after"])
    rows = steps(tmp_path / "run", "rl")
    assert len(rows) == 3
    for step in rows:
        assert (step["select/trajectories_kept"], step["select/trajectories_discarded"]) == (8, 8)
        assert step["search/tokens_discarded"] == 0
        assert not [name for name in step if name.startswith("critic/")]
