"""A run that is killed again and again ends with the very weights of a run that was left in peace.

Its source and its shaper go by arrays, which checkpoints keep in folders of theirs. The run that is killed is audited,
the other is not: that changes no bit either.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from short_runs import killed, lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
RUN = [
    "recipe=grpo",
    "scale=tiny",
    "seed=3",
    "~stages.warmup",
    "~stages.before",
    "~stages.after",
    "model.tiny.hidden_size=64",
    "model.tiny.layers=2",
    "stages.rl.steps=7",
    "stages.rl.prompts_per_step=8",
    "stages.rl.group_size=4",
    "stages.rl.minibatches=2",
    "stages.rl.eval_every=0",
    "objective.old_logprob=recompute",
    "rollout.sampling.max_tokens=24",
    "data.size=256",
    "data.holdout=16",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters}",
    "shaper={_target_: letters.AgainstHistory}",
    "stages.rl.source={_target_: letters.Retold}",
    "run.allow_targets=[letters.]",
    "telemetry.progress=plain",
]


AUDITED = [
    "+audit.graders.letters.fn={_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters}",
    "audit.share=0.2",
]


def first_weights(folder: Path) -> bytes:
    done = orjson.loads((folder / "stages/rl/done.json").read_bytes())
    return (Path(done["started_from"]) / "model.safetensors").read_bytes()


def test_killed_at_five_points_and_resumed_is_bit_equal(tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    train(whole, [*RUN, "run.save_every=1"])
    pool = [(row["reward_pool/correct/items"], row["restarts/reward/correct"]) for row in steps(whole, "rl")]
    assert pool == [(8 * 4, 0)] * 7, "eight prompts of four samples a step"
    deaths = [("rollout", 1, 0.05), ("reward", 2, 0.0), ("learn", 3, 0.03), ("save", 3, 0.01), ("publish", 5, 0.005)]
    for number, (phase, step, delay) in enumerate(deaths):
        killed(again, [*RUN, *AUDITED, "run.save_every=2"], ("rl", phase, step), delay, cold=number < 2)
    train(again, [*RUN, *AUDITED, "run.save_every=2"])
    assert weights(again, "rl") == weights(whole, "rl")
    assert weights(whole, "rl") != first_weights(whole), "nothing was learned"
    kept = sorted(path.name for path in (whole / "stages/rl").rglob("step_*/*") if path.is_dir())
    assert {"shaper", "source"} <= set(kept)
    assert [row["step"] for row in steps(again, "rl")] == list(range(1, 8)), "a step is missing or doubled"
    asked = [(row["audit/samples"], row["audit/missing/letters"]) for row in steps(again, "rl")]
    assert asked == [(6, 0), (6, 0), (7, 0), (6, 0), (7, 0), (6, 0), (6, 0)], "a fifth of 32, carried on"
    assert [event["kind"] for event in lines(again / "events.jsonl")].count("resumed") >= 4
