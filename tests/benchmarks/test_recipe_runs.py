"""Runs of experiments: how many jobs run at once, and what a failing one raises."""

from __future__ import annotations

from threading import get_ident

import pytest
from benchmarks.experiments._recipe_runs import together


def test_so_many_jobs_run_at_once() -> None:
    assert len(set(together([get_ident] * 4, at_once=1))) == 1
    assert together([lambda: 1, lambda: 2], at_once=1) == [1, 2]


def test_what_a_job_raises_is_raised() -> None:
    def fails() -> int:
        raise RuntimeError("no imitator")

    with pytest.raises(RuntimeError, match="no imitator"):
        together([fails, lambda: 1])
