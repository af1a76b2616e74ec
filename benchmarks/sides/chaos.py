"""Runs of the command line that are disturbed from outside: processes of a role get a signal at chosen moments.

    schedule = Schedule.random("rollout", seed=3, steps=range(6))
    run = disturbed(folder, overrides, [schedule])

A process is found by the title that Ray gives to the worker of an actor class, among the descendants of the run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

TITLES = {
    "rollout": "ray::RolloutWorker",
    "reward": "ray::RewardWorker",
    "learner": "ray::LearnerWorker",
    "environment": "ray::EnvironmentActor",
    "frozen": "ray::FrozenModelWorker",
    "judge": "ray::JudgeWorker",
    "engine": "VLLM::EngineCore",
}
ROOT = Path(__file__).resolve().parents[2]
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
    "rollout.max_restarts=50",
    "learner.ranks=2",
    "learner.max_restarts=50",
    "data.size=256",
    "data.holdout=16",
    "run.allow_targets=[benchmarks.]",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, "
    "path: benchmarks.sides.tasks.share_of_vowels}",
    "run.save_every=1",
    "telemetry.progress=plain",
    "telemetry.rollouts_per_step=0",
]
ASYNC = ["stages.rl.staleness=1", "objective.mismatch.mode=truncate"]
SCORED = ["objective.kl_coef=0.01"]  # a reference model scores every sample
JUDGED = [  # every sample is shown to a judge
    *(item for item in RUN if not item.startswith("rewards.correct.fn=")),
    "stages.rl.prompts_per_step=4",
    "rewards.correct.timeout_s=300",
    "rewards.correct.workers=2",
    "model.tiny.context=160",
    "model.max_context=160",
]
SERVED = [
    *JUDGED,
    "judges.judge={gpus: 0, cpus: 0.5, max_context: 160, kv_cache_gb: 0.25, max_restarts: 50}",
    "rewards.correct.fn={_target_: benchmarks.sides.judged.JudgedVowels, judge: {max_tokens: 24, "
    "model: {_target_: raylign.actors.judge.served.Served, name: judge}}}",
]
AT_ENDPOINT = [
    *JUDGED,
    "rewards.correct.fn={_target_: benchmarks.sides.judged.JudgedVowels, judge: {max_tokens: 24, "
    "model: {_target_: raylign.actors.judge.endpoint.Endpoint, model: rule, url: 'http://127.0.0.1/v1'}}}",
]
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
NODES = [  # of a head's 2 CPUs learner, reward and one rollout worker take 1.9; the other one must go to a `NODE`
    *(item for item in RUN if not item.startswith("learner.ranks")),
    "learner.cpus=1.2",
    "rollout.cpus=0.6",
    "rollout.workers=2",
]
EPISODES = [  # an environment in env actors
    "recipe=tsr",
    "scale=tiny",
    "environment=frozen_lake",
    "search=naive",
    "seed=3",
    "~stages.warmup",
    "~stages.after",
    "model.tiny.hidden_size=32",
    "model.tiny.heads=1",
    "model.tiny.kv_heads=1",
    "model.tiny.intermediate_size=64",
    "data.size=16",
    "advantage={_target_: raylign.objectives.advantage.group.GRPO}",
    "environment.workers=2",
    f"stages.rl.steps={STEPS}",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=4",
    "stages.rl.eval_every=0",
    "run.save_every=1",
    "telemetry.progress=plain",
    "telemetry.rollouts_per_step=0",
]
PHASES = ("rollout", "reward", "score", "learn", "publish", "save")
FIND_S = 120.0
PAUSE_S = 4.0  # of a process that is slowed down


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Send a signal to one process of a role, `delay` seconds after a phase of a step began.

    A process that is stopped (SIGSTOP) goes on after `PAUSE_S`.

    Example: ``Schedule(role="learner", phase="learn", step=3, delay=0.02)``
    """

    role: str  # of TITLES, or driver
    phase: str
    step: int
    delay: float
    pick: int = 0  # which of the role's processes
    sign: signal.Signals = signal.SIGKILL

    @classmethod
    def random(cls, role: str, seed: int, steps: Sequence[int], sign: signal.Signals = signal.SIGKILL) -> Schedule:
        """A moment drawn from the seed, in one of the steps."""
        rng = random.Random(f"{role}-{seed}")
        return cls(
            role=role,
            phase=rng.choice(PHASES),
            step=rng.choice(steps),
            delay=rng.uniform(0.0, 0.4),
            pick=rng.randrange(8),
            sign=sign,
        )


@dataclass(slots=True)
class Disturbed:
    """How a disturbed run ended, and which schedules met a living process."""

    code: int
    output: str
    struck: list[Schedule] = field(default_factory=list)


def disturbed(
    folder: Path,
    overrides: Sequence[str],
    schedules: Sequence[Schedule],
    timeout_s: float = 600,
    by: Callable[[int, Schedule], bool] | None = None,
    home: int | None = None,
) -> Disturbed:
    """Run to the end, or to the death of the driver, while the schedules strike.

    by: what strikes, given the driver's pid, and tells whether it met anything; `strike` where it is absent. home:
    whose descendants the run's workers are, where it joins a cluster; the driver's where it is absent.
    """
    log = folder.parent / f"{folder.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        run = subprocess.Popen(
            [sys.executable, "-m", "raylign.cli", "train", *overrides, f"run.dir={folder}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    waiting, struck = list(schedules), []
    events, seen, size = folder / "events.jsonl", events_of(folder), -1
    deadline = time.monotonic() + timeout_s
    try:
        while run.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run did not end in {timeout_s:g} s: {log.read_text()[-3000:]}")
            time.sleep(0.005)
            if not events.exists() or events.stat().st_size == size:
                continue
            size, rows = events.stat().st_size, events_of(folder)
            for row in rows[len(seen) :]:
                due = [kill for kill in waiting if (kill.phase, kill.step) == (row.get("phase"), row.get("stage_step"))]
                for schedule in due:
                    waiting.remove(schedule)
                    time.sleep(schedule.delay)
                    if by(run.pid, schedule) if by else strike(run.pid, schedule, home):
                        struck.append(schedule)
            seen = rows
    finally:
        if run.poll() is None:
            run.kill()
        run.wait()
    return Disturbed(run.returncode, log.read_text(), struck)


def strike(driver: int, schedule: Schedule, home: int | None = None) -> bool:
    """Whether a process was met, among the descendants of `home`, or else the driver's. One that is just being replaced
    is waited for.
    """
    if schedule.role == "driver":
        os.kill(driver, schedule.sign)
        return True
    deadline = time.monotonic() + FIND_S
    while time.monotonic() < deadline:
        pids = sorted(processes(home or driver, TITLES[schedule.role]))
        if pids:
            with contextlib.suppress(ProcessLookupError):
                victim = pids[schedule.pick % len(pids)]
                os.kill(victim, schedule.sign)
                if schedule.sign is signal.SIGSTOP:
                    threading.Timer(PAUSE_S, _go_on, [victim]).start()
                return True
        time.sleep(0.05)
    return False


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def processes(home: int, title: str) -> list[int]:
    """Pids of the descendants with this title."""
    pids = []
    try:
        family = psutil.Process(home).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if " ".join(process.cmdline()).startswith(title):
                pids.append(process.pid)
    return pids


def events_of(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the run's events."""
    return _rows(folder / "events.jsonl")


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """Metrics of the RL steps."""
    return [row for row in _rows(folder / "metrics.jsonl") if row["stage"] == "rl"]


def samples_of(folder: Path) -> list[list[tuple[str, int]]]:
    """(prompt, sample) of everything that each step learned from."""
    steps = [_rows(path) for path in sorted((folder / "rollouts").glob("step_*.jsonl"))]
    return [[(row["prompt"], row["sample"]) for row in rows] for rows in steps]


def weights_of(folder: Path) -> bytes:
    """What the run exported."""
    return (folder / "stages/rl/model/model.safetensors").read_bytes()


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line]
