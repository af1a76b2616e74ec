"""Spaces and samplers without any process."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylign.errors import ConfigError
from raylign.sweeps.points import Point
from raylign.sweeps.space import Space
from raylign.sweeps.tpe import Tpe


def test_a_grid() -> None:
    space = Space.parse(["a=1,2", "b=x", "c=choice(3,4)", "sweep=optuna", "sweep.sampler.trials=3"])
    assert [space.point(values) for values in space.grid()] == [
        ["b=x", "a=1", "c=3"],
        ["b=x", "a=1", "c=4"],
        ["b=x", "a=2", "c=3"],
        ["b=x", "a=2", "c=4"],
    ]
    assert space.own == ("sweep=optuna", "sweep.sampler.trials=3"), "the points know nothing of the sweep"
    assert Space.parse(["seed=range(1,4)"]).grid() == [("1",), ("2",), ("3",)]
    assert Space.parse(["x=range(0.0,1.0,0.25)"]).grid() == [("0.0",), ("0.25",), ("0.5",), ("0.75",)]
    assert Space.parse(["a=[1,2]", "~stages.before"]).grid() == [()]
    assert Space.parse(["a='x,y',z"]).grid() == [("'x,y'",), ("z",)]
    with pytest.raises(ConfigError):
        Space.parse(["a={"])


def test_intervals() -> None:
    space = Space.parse(["lr=tag(log,interval(1e-5,1e-3))", "n=int(interval(1,8))", "variant=a,b,c"])
    lr, n, _ = space.dimensions
    assert (lr.low, lr.high, lr.log, lr.whole) == (1e-5, 1e-3, True, False) and n.whole
    assert space.ends() == [("1e-05", "1", "a"), ("0.001", "8", "b"), ("0.001", "8", "c")]
    with pytest.raises(ConfigError, match="sweep=optuna"):
        space.grid()


def score(point: Point) -> float:
    """Best at lr = 1e-3 and variant b."""
    settings = dict(text.split("=") for text in point.varied)
    import math

    return -abs(math.log10(float(settings["lr"])) + 3) + (settings["variant"] == "b")


def drive(folder: Path, trials: int, seed: int = 1) -> list[list[str]]:
    space = Space.parse(["recipe=grpo", "lr=tag(log,interval(1e-6,1e-1))", "variant=a,b"])
    sampler = Tpe(Tpe.Config(trials=trials, startup=4), space, folder, seed)
    seen = []
    while (point := sampler.ask()) is not None:
        seen.append(point.varied)
        point.status, point.value = 0, score(point)
        sampler.tell(point)
    return seen


def test_tpe_is_seeded_and_an_interruption_changes_nothing(tmp_path: Path) -> None:
    whole = drive(tmp_path / "whole", 16)
    drive(tmp_path / "parts", 6)
    assert drive(tmp_path / "parts", 16) == whole
    assert drive(tmp_path / "other", 16, seed=2) != whole
    assert sum(settings[1] == "variant=b" for settings in whole[8:]) >= 6, "it learned which variant is better"


def test_a_trial_without_a_verdict_goes_on_where_it_was(tmp_path: Path) -> None:
    space = Space.parse(["recipe=grpo", "lr=interval(0,1)"])
    first = Tpe(Tpe.Config(trials=3), space, tmp_path).ask()
    assert first is not None
    again = Tpe(Tpe.Config(trials=3), space, tmp_path)
    point = again.ask()
    assert point is not None and (point.varied, point.folder, point.over) == (first.varied, first.folder, False)
    point.status = 1
    again.tell(point)
    later = Tpe(Tpe.Config(trials=3), space, tmp_path).ask()
    assert later is not None and later.over, "a failed trial is not chosen again"
