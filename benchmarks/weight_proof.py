"""That the proof of a weight update refuses no healthy one and misses nothing stale: vLLM, bf16, logits of real size.

    .venv/bin/python -m benchmarks.weight_proof [NAME ...] [--seeds 100] [--first 0] [--dtype bfloat16] [--json]

For every seed a learner of its own (the product's model, loader, publishing and probe, with fp32 masters) makes new
weights whose top logits are 15 to 25, publishes them, and then steps of 1e-6 around a larger one. A vLLM engine takes
each update first with faults: nothing is loaded, or one thing stays behind while all else arrives and the checksums are
right (the packed head, a layer's packed qkv or gate_up or one part of it, the experts of a layer or a single one, the
router, the embedding; every other of these in turn); then as it should be. Faults of tensors in which no bit changed
are counted apart: there is nothing to find. The first update of every seed meets a proof that knows nothing, as in an
engine that was just built.
Exit status 1: a healthy update was refused, or a stale weight was not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylign.actor_env import actor_env

os.environ.update(actor_env(1, gpu=False))  # before torch and vLLM are imported

import numpy as np

from benchmarks import harness
from benchmarks.sides.proof_learner import MODELS, RATES, build_model, publish

SPAWN: Any = multiprocessing.get_context("spawn")
CEILINGS = {"bfloat16": 0.05, "float32": 3e-5}  # of the first gap, as in the product


def measure(name: str, dtype: str, seeds: list[int]) -> dict[str, Any]:
    """Both halves of one model, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        path = build_model(name, Path(folder) / "model")
        trials = list(_trials(path, dtype, seeds))
    expected = len(seeds) * (1 + len(RATES))
    if len(trials) != expected:
        raise RuntimeError(f"{name}: {len(trials)} of {expected} updates were judged; a half ended too early")
    return summary(trials)


def _trials(path: str, dtype: str, seeds: list[int]) -> Any:
    from benchmarks.sides.proof_engine import prove

    updates, learner_end = SPAWN.Pipe(duplex=False)
    results, engine_end = SPAWN.Pipe(duplex=False)
    halves = [
        SPAWN.Process(target=publish, args=(path, dtype, seeds, learner_end)),
        SPAWN.Process(target=prove, args=(path, dtype, CEILINGS[dtype], updates, engine_end)),
    ]
    for half in halves:
        half.start()
    for end in (updates, learner_end, engine_end):
        end.close()  # so that a half that dies ends the other
    try:
        while (trial := results.recv()) is not None:
            yield trial
    except EOFError:
        pass  # too few trials: `measure` says so
    finally:
        for half in halves:
            half.terminate()
            half.join()


def summary(trials: Sequence[Any]) -> dict[str, Any]:
    """Counts and gaps of one model."""
    first = [trial for trial in trials if trial.version == 0]
    later = [trial for trial in trials if trial.version]
    refused = [trial for trial in trials if trial.healthy.by_bytes or trial.healthy.by_meaning]
    stale = [(trial, name, verdict) for trial in trials for name, verdict in trial.stale.items()]
    missed = [(trial, name) for trial, name, verdict in stale if not (verdict.by_bytes or verdict.by_meaning)]
    floors = [trial.healthy.gap for trial in first]
    return {
        "seeds": len(first),
        "top_logit": [float(min(trial.top for trial in first)), float(max(trial.top for trial in first))],
        "floor": {"median": float(np.median(floors)), "max": float(np.max(floors))},
        "later": {
            "median": float(np.median([trial.healthy.gap for trial in later])),
            "of_limit": float(np.max([trial.healthy.gap / trial.limit for trial in later])),
        },
        "healthy": len(trials),
        "refused": [_line(trial, trial.healthy.by_bytes or trial.healthy.by_meaning) for trial in refused],
        "stale": len(stale),
        "stale_at_first_update": sum(trial.version == 0 for trial, *_ in stale),
        "by_bytes": sum(bool(verdict.by_bytes) for *_, verdict in stale),
        "by_meaning": sum(bool(verdict.by_meaning) for *_, verdict in stale),
        "missed": [_line(trial, name) for trial, name in missed],
        "nothing_to_find": sum(len(trial.invisible) for trial in trials),
        "kinds": {
            kind: {
                "stale": sum(name == kind for _, name, _ in stale),
                "by_bytes": sum(name == kind and bool(verdict.by_bytes) for _, name, verdict in stale),
                "by_meaning": sum(name == kind and bool(verdict.by_meaning) for _, name, verdict in stale),
                "nothing_to_find": sum(kind in trial.invisible for trial in trials),
            }
            for kind in dict.fromkeys(kind for trial in trials for kind in (*trial.stale, *trial.invisible))
        },
    }


def _line(trial: Any, what: str) -> str:
    return f"seed {trial.seed}, version {trial.version} (rate {trial.rate:g}): {what}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """One row per model, then one per kind of fault."""
    head = (
        "model",
        "top logits",
        "floor, median and max",
        "worst gap / limit",
        "healthy",
        "refused",
        "stale",
        "missed",
    )
    rows = [head, ("---",) * len(head)]
    for name, result in results.items():
        low, high = result["top_logit"]
        floor = f"{result['floor']['median']:.2g}, {result['floor']['max']:.2g}"
        counts = (result["healthy"], len(result["refused"]), result["stale"], len(result["missed"]))
        size = f"{low:.0f} to {high:.0f}"
        rows.append((name, size, floor, f"{result['later']['of_limit']:.2f}", *(str(count) for count in counts)))
    kinds = ("fault", "model", "stale", "found by bytes", "found by meaning", "nothing to find")
    faults = [kinds, ("---",) * len(kinds)]
    for name, result in results.items():
        faults += [(kind, name, *(str(count) for count in counts.values())) for kind, counts in result["kinds"].items()]
    return "\n\n".join("\n".join("| " + " | ".join(row) + " |" for row in part) for part in (rows, faults))


def main() -> int:
    """Measure, print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; all when none is named")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--dtype", choices=sorted(CEILINGS), default="bfloat16")
    parser.add_argument("--json", action="store_true", help="write outputs/bench/weight_proof.json")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MODELS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    seeds = list(range(options.first, options.first + options.seeds))
    results = {name: measure(name, options.dtype, seeds) for name in options.names or MODELS}
    print(table(results))
    for name, result in results.items():
        for line in (*result["refused"], *result["missed"]):
            print(f"WRONG: {name}, {line}")
    if options.json:
        harness.write("weight_proof", {"environment": harness.environment(), "dtype": options.dtype, **results})
    return int(any(result["refused"] or result["missed"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
