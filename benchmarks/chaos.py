"""Twenty random kills a role: the run always ends by itself, with the weights and the draws of one left in peace.

    python -m benchmarks.chaos [--roles rollout,reward,learner,driver] [--schedules 20] [--mode sync|async]

Schedules are drawn from their number (phase, step, delay, which process). A driver that was killed is started again by
the same command. sync: final weights bit-equal. async: every step learned from its full number of draws, none twice,
and no token older than the staleness. Takes about a minute a schedule on two quiet cores.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, write
from benchmarks.sides.chaos import ASYNC, RUN, STEPS, Schedule, disturbed, draws_of, steps_of, weights_of

ROLES = ("rollout", "reward", "learner", "driver")


def one(folder: Path, overrides: list[str], schedule: Schedule, whole: Path | None) -> dict[str, Any]:
    """One disturbed run and what is wrong with it (nothing, as a rule)."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    run = disturbed(folder, overrides, [schedule])
    if schedule.role == "driver" and run.struck:
        run = disturbed(folder, overrides, [])
    wrong = []
    if run.code:
        wrong.append(f"ended with status {run.code}: {run.output[-500:]}")
    else:
        draws = draws_of(folder)
        if [row["step"] for row in steps_of(folder)] != list(range(1, STEPS + 1)):
            wrong.append("a step is missing or doubled")
        if any(len(step) != len(set(step)) for step in draws) or len({len(step) for step in draws}) != 1:
            wrong.append("a draw is missing or doubled")
        if whole is not None and weights_of(folder) != weights_of(whole):
            wrong.append("other weights than those of the undisturbed run")
        if whole is None and max(row.get("async/staleness_max", 0.0) for row in steps_of(folder)) > 1:
            wrong.append("older than the staleness")
    return {"schedule": str(schedule), "wrong": wrong, "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    """All schedules of all roles; exit status 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roles", default=",".join(ROLES))
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--mode", choices=["sync", "async"], default="sync")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench/chaos").absolute())
    args = parser.parse_args()
    overrides = RUN if args.mode == "sync" else [*RUN, *ASYNC]
    whole = args.folder / f"{args.mode}-whole"
    shutil.rmtree(whole, ignore_errors=True)
    peace = disturbed(whole, overrides, [])
    if peace.code:
        print(peace.output[-3000:])
        return 1
    rows: dict[str, list[dict[str, Any]]] = {}
    for role in args.roles.split(","):
        for seed in range(args.schedules):
            schedule = Schedule.random(role, seed, STEPS)
            found = one(args.folder / role, overrides, schedule, whole if args.mode == "sync" else None)
            rows.setdefault(role, []).append(found)
            verdict = "; ".join(found["wrong"]) or "ok"
            print(f"{role} {seed + 1}/{args.schedules} {schedule}: {verdict} ({found['seconds']} s)", flush=True)
    failed = sum(bool(row["wrong"]) for found in rows.values() for row in found)
    print(f"{sum(map(len, rows.values())) - failed} of {sum(map(len, rows.values()))} schedules passed")
    write("chaos", {"environment": environment(), "mode": args.mode, "results": rows})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
