"""Sweeps end to end but for the training: which points run, when again, what is written, what Ctrl-C leaves."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raylign.cli import main
from raylign.errors import ConfigError, RunError
from raylign.sweeps import drive, processes
from raylign.sweeps.drive import sweep
from raylign.sweeps.points import measured

TRAINER = Path(__file__).parent / "trainer.sh"


@pytest.fixture(autouse=True)
def _trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes.sys, "executable", str(TRAINER))
    monkeypatch.setattr(drive, "POLL_S", 0.02)
    monkeypatch.chdir(tmp_path)


def calls(folder: Path) -> list[int]:
    return [len((point / "calls").read_text().splitlines()) for point in sorted(folder.glob("0*"))]


def test_a_grid_its_table_and_its_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "-j", "2", "recipe=grpo", "seed=1,3,2", "learner.optim.lr=1e-4"]) == 0
    base = tmp_path / "multirun" / "grpo"
    printed = capsys.readouterr().out
    assert "3 points, 2 at a time" in printed
    assert printed.splitlines()[-1] == "best: 001  after/eval/score 0.3  seed=3  (multirun/grpo/001)"
    kept = json.loads((base / "results.json").read_text())
    assert kept["best"] == "001" and [point["value"] for point in kept["points"]] == [0.1, 0.3, 0.2]
    rows = list(csv.DictReader((base / "results.csv").open()))
    assert [(row["point"], row["seed"], row["status"], row["after/eval/score"]) for row in rows] == [
        ("000", "1", "0", "0.1"),
        ("001", "3", "0", "0.3"),
        ("002", "2", "0", "0.2"),
    ]
    assert "learner.optim.lr=1e-4 seed=3 run.dir=multirun/grpo/001" in (base / "001" / "calls").read_text()
    assert main(["train", "-m", "recipe=grpo", "seed=1,3,2", "learner.optim.lr=1e-4"]) == 0
    assert (tmp_path / "multirun" / "grpo-2").is_dir(), "a finished sweep is left alone"


def test_the_same_command_repeats_only_what_failed(tmp_path: Path) -> None:
    command = ["recipe=grpo", "seed=1,9,2", "sweep.dir=mine"]
    assert sweep(command) == 1
    assert [point["status"] for point in json.loads(Path("mine/results.json").read_text())["points"]] == [0, 1, 0]
    assert sweep([*command, "sweep.launcher.parallel=3"]) == 0, "how it is run is no part of what it is"
    assert calls(tmp_path / "mine") == [1, 2, 1]
    took = [point["seconds"] for point in json.loads(Path("mine/results.json").read_text())["points"]]
    assert [seconds is None for seconds in took] == [True, False, True], "what did not run again took no 0 seconds"
    with pytest.raises(RunError, match="another sweep"):
        sweep(["recipe=grpo", "seed=1,9", "sweep.dir=mine"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_saves_its_points_and_goes_on(tmp_path: Path, number: int) -> None:
    code = f"import sys, raylign.cli; sys.executable = {str(TRAINER)!r}; sys.exit(raylign.cli.main(sys.argv[1:]))"
    # not sys.executable, which the fixture replaced
    python = Path(sys.prefix) / "bin" / "python"
    command = [str(python), "-c", code, "train", "-m", "-j", "2", "recipe=grpo", "seed=1,8,2", "sweep.dir=mine"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    )
    deadline = time.monotonic() + 120
    while not (Path("mine/001/waiting").exists() and Path("mine/002/finished.json").exists()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert Path("mine/001/saved").exists() and "[001] stopped" in printed
    assert json.loads(Path("mine/results.json").read_text())["points"][1]["status"] == 3
    assert sweep(["recipe=grpo", "seed=1,8,2", "sweep.dir=mine"]) == 0
    assert calls(tmp_path / "mine") == [1, 2, 1]


def test_everything_is_checked_before_the_first_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "recipe=grpo", "variant=dapo,dapoo", "learner.zero_stage=1,7"]) == 2
    err = capsys.readouterr().err
    assert "dapoo" in err and "learner.zero_stage = 7" in err
    assert main(["train", "-m", "recipe=grpo", "seed=1,2", "sweep.sampler.trials=3", "sweep.direction=up"]) == 2
    err = capsys.readouterr().err
    assert "sweep.sampler.trials" in err and "sweep.direction = up" in err
    assert main(["train", "-m", "sweep=ray_jobs", "recipe=grpo", "seed=1,2"]) == 2
    assert "sweep.dir=/shared" in capsys.readouterr().err
    assert main(["train", "-m", "recipe=grpo", "learner.optim.lr=interval(1e-5,1e-4)"]) == 2
    assert "sweep=optuna" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing is written for a sweep that is refused"


def test_a_metric_that_nobody_measured_is_missing_not_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(["recipe=grpo", "seed=1,2", "sweep.metric=after/eval/mine"]) == 0
    _, _, told = capsys.readouterr().out.partition("best: no point measured sweep.metric=after/eval/mine; there are ")
    assert "after/eval/score" in told
    assert json.loads(Path("multirun/grpo/results.json").read_text())["best"] is None
    assert measured(Path("multirun/grpo/000"), "after/length/mean") == 2.0, "a metric outside of the summaries"


def test_a_metric_that_a_point_cannot_log_is_refused_before_the_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean after/depth_2/score"):
        sweep(["recipe=composition_rl", "seed=1,2", "sweep.metric=after/eval/score"])
    with pytest.raises(ConfigError, match=r"sweep.metric = rl/eval/score: no stage of this run"):
        sweep(["recipe=grpo", "stages.rl.eval_every=5,0", "sweep.metric=rl/eval/score"])
    assert not list(tmp_path.iterdir()), "nothing is written for a sweep that is refused"


@pytest.mark.parametrize("place", [[], ["sweep.dir=mine"]], ids=["default folder", "named folder"])
def test_a_grid_is_compared_by_another_metric_without_running_again(place: list[str], tmp_path: Path) -> None:
    command = ["recipe=grpo", "seed=1,3,2", *place]
    folder = tmp_path / (place[0].removeprefix("sweep.dir=") if place else "multirun/grpo")
    assert sweep(command) == 0 and sweep([*command, "sweep.metric=after/eval/length/mean"]) == 0
    kept = json.loads((folder / "results.json").read_text())
    assert (kept["metric"], [point["value"] for point in kept["points"]]) == ("after/eval/length/mean", [2.0] * 3)
    assert sweep([*command, "sweep.metric=after/eval/score", "sweep.direction=minimize"]) == 0
    assert json.loads((folder / "results.json").read_text())["best"] == "000"
    assert calls(folder) == [1, 1, 1] and not list(tmp_path.glob("multirun/grpo-*"))


def test_points_that_were_chosen_by_a_metric_stay_with_it() -> None:
    command = ["sweep=optuna", "recipe=grpo", "seed=int(interval(1,7))", "sweep.sampler.trials=3", "sweep.dir=mine"]
    assert sweep(command) == 0
    with pytest.raises(RunError, match=r"chosen by after/eval/score \(maximize\), not by after/eval/length/mean"):
        sweep([*command, "sweep.metric=after/eval/length/mean"])


def test_optuna_runs_points_and_is_extended() -> None:
    command = ["sweep=optuna", "recipe=grpo", "seed=int(interval(1,7))", "sweep.sampler.trials=12"]
    command += ["sweep.sampler.startup=4", "sweep.direction=minimize", "sweep.launcher.parallel=3", "sweep.dir=mine"]
    assert sweep(command) == 0
    kept: dict[str, Any] = json.loads(Path("mine/results.json").read_text())
    assert len(kept["points"]) == 12
    best = next(point for point in kept["points"] if point["point"] == kept["best"])
    assert best["value"] == min(point["value"] for point in kept["points"]) == int(best["settings"]["seed"]) / 10
    assert calls(Path("mine")) == [1] * 12
    assert sweep([*command, "sweep.sampler.trials=14"]) == 0, "a sweep is extended by asking for more"
    assert calls(Path("mine")) == [1] * 14


def test_optuna_needs_something_to_vary() -> None:
    with pytest.raises(ConfigError, match="no setting varies"):
        sweep(["sweep=optuna", "recipe=grpo"])
