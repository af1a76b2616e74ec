"""Every role is killed at a moment drawn from a seed; the run ends by itself, with the weights of one left in peace.

One schedule a role here; `benchmarks/chaos.py` strikes twenty times a role.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from chaos import Disturbed, Schedule, disturbed, events_of
from short_runs import steps, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
STEPS = 5
RUN = [
    "recipe=grpo",
    "scale=tiny",
    "seed=3",
    "~stages.warmup",
    "~stages.before",
    "~stages.after",
    "model.tiny.hidden_size=64",
    "model.tiny.layers=2",
    f"stages.rl.steps={STEPS}",
    "stages.rl.prompts_per_step=8",
    "stages.rl.group_size=4",
    "stages.rl.eval_every=0",
    "rollout.sampling.max_tokens=24",
    "rollout.max_restarts=20",
    "learner.ranks=2",
    "data.size=256",
    "data.holdout=16",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters}",
    "run.save_every=1",
    "telemetry.progress=plain",
    "telemetry.rollouts_per_step=0",
]
ASYNC = ["stages.rl.staleness=1", "objective.mismatch.mode=truncate"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended(disturbed(folder, RUN, []))
    return folder


def ended(run: Disturbed) -> None:
    assert run.code == 0, run.output[-4000:]


def ledger(folder: Path) -> list[list[str]]:
    """Draws of every step: none may be missing, none there twice."""
    found = []
    for path in sorted((folder / "rollouts").glob("step_*.jsonl")):
        rows = [line for line in path.read_text().splitlines() if line]
        found.append(rows)
    return found


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(role="rollout", phase="rollout", step=1, delay=0.05),
        Schedule(role="reward", phase="rollout", step=2, delay=0.1),
        Schedule(role="learner", phase="learn", step=3, delay=0.02, pick=1),
    ],
    ids=lambda schedule: schedule.role,
)
def test_a_killed_role_changes_nothing(tmp_path: Path, whole: Path, schedule: Schedule) -> None:
    run = disturbed(tmp_path / "run", RUN, [schedule])
    ended(run)
    assert run.struck == [schedule]
    assert weights(tmp_path / "run", "rl") == weights(whole, "rl")
    assert [row["step"] for row in steps(tmp_path / "run", "rl")] == list(range(1, STEPS + 1))
    assert [len(rows) for rows in ledger(tmp_path / "run")] == [len(rows) for rows in ledger(whole)]
    if schedule.role == "learner":
        restarts = [row for row in events_of(tmp_path / "run") if row["kind"] == "learner_restarted"]
        assert len(restarts) == 1


def test_an_asynchronous_run_survives_its_roles_and_its_driver(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed = disturbed(
        folder,
        [*RUN, *ASYNC],
        [
            Schedule(role="rollout", phase="learn", step=1, delay=0.1),
            Schedule(role="driver", phase="learn", step=3, delay=0.1),
        ],
    )
    assert killed.code == -signal.SIGKILL
    ended(disturbed(folder, [*RUN, *ASYNC], []))
    rows = steps(folder, "rl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert max(row.get("async/staleness_max", 0.0) for row in rows) == 1.0, "rollouts ran ahead, and no further"
    assert [len(step) for step in ledger(folder)] == [8 * 4] * STEPS
