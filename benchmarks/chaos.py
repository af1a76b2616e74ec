"""Random kills of every role: the run goes on by itself and ends with the weights and samples of one left in peace.

    python -m benchmarks.chaos [--roles rollout,judge,...] [--kills 20] [--mode sync|async]

All strikes of a role hit one run, each in a step of its own; step, phase, delay and victim are drawn from its number.
What a strike ends (a killed driver, a full disk) is started again by the same command.
sync: final weights and samples are equal, bit for bit.
async: every step learned from its full number of samples, none twice, and no token older than the staleness.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, write
from benchmarks.sides.chaos import (
    ASYNC,
    AT_ENDPOINT,
    EPISODES,
    NODES,
    RUN,
    SCORED,
    SERVED,
    Disturbed,
    Schedule,
    disturbed,
    events_of,
    samples_of,
    steps_of,
    weights_of,
)
from benchmarks.sides.hands import Hand, hands

ROLES = {  # role -> what is run
    "rollout": RUN,
    "reward": RUN,
    "learner": RUN,
    "driver": RUN,
    "frozen": [*RUN, *SCORED],
    "environment": EPISODES,
    "judge": SERVED,
    "endpoint": AT_ENDPOINT,  # a judge elsewhere, whose connections are cut for seconds
    "slow": RUN,  # a rollout worker stands still for seconds
    "engine": [*RUN, "rollout.engine=async_llm"],  # vLLM's own process behind a rollout worker
    "node": NODES,  # a raylet with the second rollout worker; another one joins
    "disk": RUN,  # filled to the last byte; emptied before the same command is given again
}
WELL = {"sync": "as if left in peace", "async": "every sample learned from once, none too old"}
SPACING = 2  # steps for each kill: the next one meets a run that has recovered


def schedules_of(role: str, count: int) -> list[Schedule]:
    """Kills in different steps."""
    steps = sorted(random.Random(role).sample(range(1, SPACING * count), count))
    role, sign = ("rollout", signal.SIGSTOP) if role == "slow" else (role, signal.SIGKILL)
    return [Schedule.random(role, seed, [step], sign) for seed, step in enumerate(steps)]


def strike_all(folder: Path, overrides: list[str], schedules: list[Schedule], hand: Hand) -> Disturbed:
    """One run through all strikes; one that a strike ended is started again until none is left."""
    overrides = [*overrides, *hand.overrides]
    run = disturbed(folder, overrides, schedules, timeout_s=3600, by=hand.strike)
    left, struck = list(schedules), list(run.struck)
    while hand.ends is not None and run.code == hand.ends:
        hand.mend()
        left = [schedule for schedule in left if schedule not in struck]
        run = disturbed(folder, overrides, left, timeout_s=3600, by=hand.strike)
        struck += run.struck
    run.struck = struck
    return run


def faults(folder: Path, run: Disturbed, steps: int, whole: Path | None) -> list[str]:
    """What is wrong with a run after its kills; nothing, as a rule."""
    if run.code:
        return [f"ended with status {run.code}: {run.output[-1500:]}"]
    wrong, samples = [], samples_of(folder)
    if [row["step"] for row in steps_of(folder)] != list(range(1, steps + 1)):
        wrong.append("a step is missing or doubled")
    if any(len(step) != len(set(step)) for step in samples) or len({len(step) for step in samples}) != 1:
        wrong.append("a sample is missing or doubled within a step")
    if whole is not None and samples != samples_of(whole):
        wrong.append("other samples than those of the undisturbed run")
    if whole is not None and weights_of(folder) != weights_of(whole):
        wrong.append("other weights than those of the undisturbed run")
    if whole is None and max(row.get("async/staleness_max", 0.0) for row in steps_of(folder)) > 1:
        wrong.append("a token is older than the staleness")
    return wrong


def one_role(role: str, kills: int, mode: str, folder: Path) -> dict[str, Any]:
    """The undisturbed run of a role's settings (made once) and the one that is struck."""
    steps = SPACING * kills + 1
    overrides = [*ROLES[role], f"stages.rl.steps={steps}", *(ASYNC if mode == "async" else [])]
    whole = folder / f"{mode}-whole-{'plain' if ROLES[role] is RUN else role}"
    if mode == "sync" and not (whole / "finished.json").exists():
        with hands("endpoint" if role == "endpoint" else "nobody", whole) as hand:
            peace = strike_all(whole, overrides, [], hand)
        if peace.code:
            raise RuntimeError(f"the undisturbed run failed: {peace.output[-3000:]}")
    schedules, struck = schedules_of(role, kills), folder / f"{mode}-{role}"
    started = time.monotonic()
    with hands(role, struck) as hand:
        run = strike_all(struck, overrides, schedules, hand)
        wrong = faults(struck, run, steps, whole if mode == "sync" else None)
        events = len(events_of(struck))
    return {
        "kills": [str(schedule) for schedule in schedules],
        "struck": len(run.struck),
        "wrong": wrong,
        "seconds": round(time.monotonic() - started, 1),
        "events": events,
    }


def main() -> int:
    """All roles; exit status 0 when every kill met a process and nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roles", default=",".join(ROLES))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--mode", choices=["sync", "async"], default="sync")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench/chaos").absolute())
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    results: dict[str, dict[str, Any]] = {}
    for role in args.roles.split(","):
        outcome = results[role] = one_role(role, args.kills, args.mode, args.folder)
        struck = f"{outcome['struck']} of {args.kills} kills struck in {outcome['seconds']} s"
        print(f"{role}: {struck}: {'; '.join(outcome['wrong']) or WELL[args.mode]}", flush=True)
    write("chaos", {"environment": environment(), "mode": args.mode, "results": results})
    return 1 if any(outcome["wrong"] or outcome["struck"] < args.kills for outcome in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
