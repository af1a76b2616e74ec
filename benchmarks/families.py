"""Which model families are computed right: learner against plain transformers, sampler against learner.

    python -m benchmarks.families [NAME ...] [--no-engine] [--write] [--workers 2]

Every family is built tiny (`benchmarks.sides.families`), loaded by the product's loader, and compared in log-probs of
single tokens (nat, fp32): packed rows with shared prompts in training mode against the plain model row by row; and,
where vLLM's CPU build takes the family, what the engine scores and samples against the learner, before and after two
updates that went through the published layout. A family that the learner refuses at load, or whose updates the proof
of a sync refuses, is not right, but nobody is misled. Exit status 1: a line is wrong without a word.

--write puts the table into actors/README.md; it needs all families and engines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides.families import BY_NAME, FAMILIES, Family
from benchmarks.sides.family_engine import sample
from benchmarks.sides.family_learner import ENGINE, LAYOUT, LEARNER, learn
from raylign.actor_env import actor_env

LIMIT = 2e-4  # nat; fp32 rounding stays far below, a fault of any kind far above
LIMIT_S = 150.0  # for one family's half
PRELOAD = ["vllm.v1.engine.llm_engine", "raylign.actors.rollout.vllm_io", "raylign.actors.learner.model"]
README = Path(__file__).resolve().parents[1] / "actors" / "README.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
LAYOUTS = {"packed": "packed", "rows": "one row at a time"}
FORK: Any = multiprocessing.get_context("forkserver")  # imports torch and vLLM once


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured of one family."""

    family: Family
    model: str
    layout: str
    gap: float | None  # learner against plain transformers, nat; None: refused
    before: float | None  # engine against learner, with the weights of the folder
    after: float | None  # the same after updates; None: there were none
    reason: str  # why the learner, the engine or the proof of a sync refused; empty: none did

    @property
    def wrong(self) -> bool:
        """A number is off and nothing refused."""
        gaps = [self.gap, self.after if self.after is not None else self.before]
        return not self.reason and any(gap is not None and not gap <= LIMIT for gap in gaps)

    @property
    def right(self) -> bool:
        """The learner is exact, and so is the engine wherever vLLM's CPU build takes the family."""
        caught = bool(self.reason) and self.before is not None
        return self.gap is not None and self.gap <= LIMIT and not caught and not self.wrong

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        name = f"{self.family.name} (state)" if self.family.state else self.family.name
        numbers = [_number(gap) for gap in (self.gap, self.before, self.after)]
        verdict = "WRONG" if self.wrong else "right" if self.right else "refused"
        return name, LAYOUTS.get(self.layout, "-"), *numbers, verdict, self.reason


def measure(family: Family, engine: bool) -> Line:
    """Both halves of one family, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="family-") as folder:
        path = Path(folder)
        learner = _start(learn, (family.name, folder, engine), path / "learner.log")
        published = path / LAYOUT
        while learner.is_alive() and not published.exists():
            time.sleep(0.05)
        if published.exists():
            sampler = _start(sample, (folder,), path / "engine.log")
            _finish(sampler)
            if not (path / ENGINE).exists():
                reason = f"the engine's process ended with {sampler.exitcode} or took more than {LIMIT_S:g} s"
                (path / ENGINE).write_text(json.dumps({"versions": [], "reason": reason}))
        _finish(learner)
        return _line(family, path)


def _line(family: Family, path: Path) -> Line:
    result = json.loads((path / LEARNER).read_text()) if (path / LEARNER).exists() else {}
    if not result.get("done"):
        log = (path / "learner.log").read_text().strip().splitlines()
        raise RuntimeError(f"{family.name}: the learner's half failed: {log[-1] if log else 'no output'}")
    gaps = result.get("engine", [])
    reason = result.get("refused", "")
    if result.get("engine_reason"):
        reason = f"{'proof of the sync' if gaps else 'vLLM'}: {_cause(result['engine_reason'], path)}"
    return Line(
        family=family,
        model=result.get("model", ""),
        layout=result.get("layout", ""),
        gap=result.get("gap"),
        before=gaps[0] if gaps else None,
        after=max(gaps[1:]) if len(gaps) > 1 else None,
        reason=reason,
    )


def _cause(reason: str, path: Path) -> str:
    """vLLM's reason in one line, without places on this machine."""
    if "failed to be inspected" in reason:
        missing = re.findall(r"^(ModuleNotFoundError: .*)$", (path / "engine.log").read_text(), re.MULTILINE)
        reason = missing[-1] if missing else reason
    reason = re.sub(r"^.*?(Value error|Assertion failed), | \[type=.*$| Supported architectures: .*$", "", reason)
    reason = re.sub(r"(?<!\w)/\S+", "...", reason)
    return reason if len(reason) <= 160 else f"{reason[:157]}..."


def _start(target: Callable[..., None], arguments: tuple[Any, ...], log: Path) -> Any:
    process = FORK.Process(target=_quiet, args=(target, arguments, str(log)))
    process.start()
    return process


def _quiet(target: Callable[..., None], arguments: tuple[Any, ...], log: str) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    import torch

    torch.set_num_threads(1)
    target(*arguments)


def _finish(process: Any) -> None:
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()


def _number(gap: float | None) -> str:
    return "-" if gap is None else f"{gap:.1e}"


def table(lines: Sequence[Line]) -> str:
    """All families in markdown."""
    head = ("family", "rows", "learner", "sampler", "after updates", "verdict", "why")
    rows = [head, ("---",) * len(head), *(line.cells() for line in lines)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def counts(lines: Sequence[Line]) -> str:
    """One sentence."""
    right = [line for line in lines if line.right]
    sampled = sum(line.after is not None for line in right)
    state = sum(line.family.state for line in right)
    wrong = sum(line.wrong for line in lines)
    return (
        f"{len(lines)} families: {len(right)} right ({sampled} of them in vLLM's CPU build too, {state} that carry "
        f"state), {len(lines) - len(right) - wrong} refused, {wrong} wrong without a word."
    )


def write(lines: Sequence[Line]) -> None:
    """Replace the table in actors/README.md."""
    text = README.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    README.write_text(f"{before}\n{counts(lines)}\n\n{table(lines)}\n{after}")


def main() -> int:
    """Measure, print, perhaps write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="families; all when none is named")
    parser.add_argument("--no-engine", action="store_true", help="the learner only")
    parser.add_argument("--write", action="store_true", help="put the table into actors/README.md")
    parser.add_argument("--workers", type=int, default=2, help="families at a time")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BY_NAME):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BY_NAME)}")
    if options.workers < 1:
        parser.error("--workers must be at least 1")
    if options.write and (options.names or options.no_engine):
        parser.error("--write needs all families and engines")
    os.environ.update(actor_env(1, gpu=False))
    FORK.set_forkserver_preload(PRELOAD)
    chosen = [BY_NAME[name] for name in options.names] or list(FAMILIES)
    with ThreadPoolExecutor(options.workers) as pool:
        lines = []
        for line in pool.map(lambda family: measure(family, not options.no_engine), chosen):
            lines.append(line)
            print(
                "  ".join(f"{cell:{width}}" for cell, width in zip(line.cells(), (28, 18, 9, 9, 9, 8, 0), strict=True))
            )
            sys.stdout.flush()
    print(counts(lines))
    if options.write:
        write(lines)
    return int(any(line.wrong for line in lines))


if __name__ == "__main__":
    sys.exit(main())
