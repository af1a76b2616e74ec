"""The command line of every experiment: which of its parts to run, where their runs go, and what is written at the end.

``python -m benchmarks.experiments.NAME [PART ...] [--folder FOLDER]``
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from benchmarks.experiments.report import ROOT, Claim, write

Part: TypeAlias = Callable[[Path], list[Claim]]  # of the folder that its runs go to
Kind = TypeVar("Kind")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_turn(parts: Mapping[str, Part], folder: Path) -> list[Claim]:
    """The claims of all parts, run one after the other."""
    claims: list[Claim] = []
    for name, part in parts.items():
        begun = time.time()
        claims += part(folder)
        print(f"part {name}: {time.time() - begun:.0f} s", flush=True)
    return claims


def beside(real: str, parts: Mapping[str, Part], folder: Path) -> list[Claim]:
    """The claims of all parts, those without a language model beside the one with it, which is called `real`."""
    simulated = {name: part for name, part in parts.items() if name != real}
    trained = {name: part for name, part in parts.items() if name == real}
    with ThreadPoolExecutor(2) as pool:
        claims = [pool.submit(in_turn, some, folder) for some in (simulated, trained)]
        return [claim for future in claims for claim in future.result()]


def in_processes(work: Callable[[Item], Result], items: Iterable[Item], at_once: int = 2) -> list[Result]:
    """What a function of a module, or a partial of one, makes of every item, in their order: each in a process of its
    own, `at_once` at a time.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that begin from here on
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, items))


def main(
    slug: str,
    about: str | None,
    parts: Mapping[str, Kind],
    settings: Mapping[str, Any],
    run: Callable[[Mapping[str, Kind], Path], list[Claim]],
) -> None:
    """Run the parts named on the command line, all by default, and exit: with 0 when every claim holds.

    run: gives the claims of the parts that are wanted; `in_turn` where each stands for itself. The result is written
    under the slug, and under one of its own when some parts were left out.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "experiments" / f"{slug}-runs")
    parsed = parser.parse_args()
    if unknown := sorted(set(parsed.parts) - set(parts)):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(parts)}")
    wanted = {name: parts[name] for name in parsed.parts or parts}
    started = time.time()
    claims = run(wanted, parsed.folder)
    name = slug if set(wanted) == set(parts) else f"{slug}-{''.join(sorted(wanted))}"
    sys.exit(0 if write(name, claims, {"parts": list(wanted), **settings}, started=started) else 1)
