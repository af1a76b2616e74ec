"""Runs of experiments: which jobs go on from which."""

from __future__ import annotations

from threading import Lock, get_ident

import pytest
from benchmarks.experiments._recipe_runs import branched, together


def test_every_branch_goes_on_from_its_own_start() -> None:
    seen: list[tuple[str, int]] = []
    lock = Lock()

    def began(number: int) -> int:
        with lock:
            seen.append(("start", number))
        return number

    def branch(name: str, number: int) -> str:
        with lock:
            assert ("start", number) in seen
        return f"{name}{number}"

    starts = [lambda number=number: began(number) for number in (1, 2, 3)]
    ended = branched(starts, [lambda number: branch("main", number), lambda number: branch("other", number)])
    assert ended == [["main1", "other1"], ["main2", "other2"], ["main3", "other3"]]
    assert len(seen) == 3


def test_so_many_jobs_run_at_once() -> None:
    threads = {start for [start] in branched([get_ident] * 4, [lambda start: start], at_once=1)}
    assert len(threads) == 1
    assert together([lambda: 1, lambda: 2], at_once=1) == [1, 2]


def test_what_a_job_raises_is_raised() -> None:
    def fails() -> int:
        raise RuntimeError("no imitator")

    with pytest.raises(RuntimeError, match="no imitator"):
        branched([fails], [lambda start: start])
