"""Seconds lost per kind of kill: from the kill until the step goes on where it was, at tiny scale (claim: 30 s).

    python -m benchmarks.recovery [--force]

The lost time of a role is what its disturbed run took longer than the median step, in the step that was struck; for the
driver, from the kill to the first line of metrics of the run that continues.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import time
from pathlib import Path

from benchmarks.harness import environment, refuse_under_load, write
from benchmarks.sides.chaos import RUN, Schedule, disturbed, events_of, steps_of

LIMIT_S = 30.0
FOLDER = Path(".cache/bench/recovery").absolute()
KILLS = {
    "rollout": Schedule(role="rollout", phase="rollout", step=2, delay=0.1),
    "reward": Schedule(role="reward", phase="rollout", step=2, delay=0.1),
    "learner": Schedule(role="learner", phase="learn", step=2, delay=0.02),
}


def lost_in_run(role: str) -> float:
    """Seconds between the phases around the kill, less what an undisturbed step takes."""
    folder = FOLDER / role
    shutil.rmtree(folder, ignore_errors=True)
    run = disturbed(folder, RUN, [KILLS[role]])
    if run.code or not run.struck:
        raise RuntimeError(f"{role}: {run.output[-2000:]}")
    saved = [row["time"] for row in events_of(folder) if row.get("phase") == "save"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(saved)]
    return max(gaps) - statistics.median(gaps)


def lost_by_driver() -> float:
    """Seconds from the driver's kill to the first step of the run that continues."""
    folder = FOLDER / "driver"
    shutil.rmtree(folder, ignore_errors=True)
    disturbed(folder, RUN, [Schedule(role="driver", phase="learn", step=2, delay=0.02)])
    killed, before = time.time(), len(steps_of(folder))
    run = disturbed(folder, RUN, [])
    if run.code:
        raise RuntimeError(f"driver: {run.output[-2000:]}")
    phases = [row["time"] for row in events_of(folder) if row.get("phase") == "save" and row["time"] > killed]
    assert len(steps_of(folder)) > before
    return phases[0] - killed


def main() -> None:
    """One kill a role."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    args = parser.parse_args()
    refuse_under_load(0.5, args.force)
    lost = {role: round(lost_in_run(role), 1) for role in KILLS} | {"driver": round(lost_by_driver(), 1)}
    for role, seconds in lost.items():
        print(f"{role}: {seconds} s lost (needs {LIMIT_S})")
    write("recovery", {"environment": environment(), "lost_s": lost})


if __name__ == "__main__":
    main()
