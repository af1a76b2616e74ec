"""A run that is killed again and again ends with the very weights of a run that was left in peace."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

HERE = Path(__file__).parent
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
    "learner.ranks=2",
    "data.size=256",
    "data.holdout=16",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters}",
    "telemetry.progress=plain",
]


def start(folder: Path, save_every: int, die: tuple[str, int, float] | None = None) -> subprocess.CompletedProcess[str]:
    """Train to the end, or to a death."""
    arguments = ["train", *RUN, f"run.dir={folder}", f"run.save_every={save_every}"]
    command = [sys.executable, str(HERE / "dying.py"), *(map(str, die or ("never", -1, 0.0))), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def weights(folder: Path) -> bytes:
    return (folder / "stages/rl/model/model.safetensors").read_bytes()


def first_weights(folder: Path) -> bytes:
    done = orjson.loads((folder / "stages/rl/done.json").read_bytes())
    return (Path(done["started_from"]) / "model.safetensors").read_bytes()


def test_killed_at_five_points_and_resumed_is_bit_equal(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "whole", save_every=1)
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    deaths = [("rollout", 1, 0.05), ("reward", 2, 0.0), ("learn", 3, 0.03), ("save", 3, 0.01), ("publish", 5, 0.005)]
    for die in deaths:
        killed = start(tmp_path / "killed", save_every=2, die=die)
        assert killed.returncode == -signal.SIGKILL, f"{die}: {killed.stdout[-2000:]} {killed.stderr[-3000:]}"
    final = start(tmp_path / "killed", save_every=2)
    assert final.returncode == 0, final.stderr[-3000:]
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert weights(tmp_path / "whole") != first_weights(tmp_path / "whole"), "nothing was learned"
    rows = [orjson.loads(line) for line in (tmp_path / "killed/metrics.jsonl").read_bytes().splitlines()]
    assert [row["step"] for row in rows if row["stage"] == "rl"] == list(range(1, 8)), "a step is missing or doubled"
    events = (tmp_path / "killed/events.jsonl").read_text()
    assert events.count('"resumed"') >= 4
