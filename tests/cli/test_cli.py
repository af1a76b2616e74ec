"""The command line as a process: clean errors, exit statuses, help that can be read."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import raylign.cli
from raylign.cli import main, train
from raylign.cli.export import newest_model
from raylign.errors import CheckpointError, RunError


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raylign.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120"},
    )


def test_a_wrong_configuration_ends_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = command("train", "recipe=grop", "sed=1", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "did you mean grpo?" in done.stderr and "did you mean seed?" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is written for a typo"
    assert "Traceback" in command("train", "recipe=grop", "--trace").stderr


def test_plan_prints_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "recipe=grpo", "scale=tiny", "variant=ppo"]) == 0
    out = capsys.readouterr().out
    for text in ("critic", "rollout", "reward/correct", "samples", "821.4 k parameters", "lam 0.95", "before", "after"):
        assert text in out, text
    assert len(out.splitlines()) < 50 and "learner.optim.betas" not in out
    assert main(["plan", "recipe=grpo", "scale=tiny", "--all"]) == 0
    every = capsys.readouterr().out
    for text in ("advantage.epsilon", "learner.optim.betas", "cluster.object_store_mb", "run.save_every"):
        assert text in every, text
    assert main(["plan", "recipe=grpo", "scale=tiny", "cluster.num_cpus=1"]) == 2
    captured = capsys.readouterr()
    assert "rollout.workers" in captured.err and "missing: 1.1 CPU" in captured.err and "learner" in captured.out
    assert main(["plan", "recipe=grpo", "--no-fit", "cluster.num_cpus=2"]) == 0


def test_settings_may_follow_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "recipe=grpo", "--no-fit", "stages.rl.prompts_per_step=7", "seed=3"]) == 0
    assert " 56 " in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["plan", "recipe=grpo", "--nofit"])
    assert caught.value.code == 2


def test_recipes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "grpo" in out and "sft" in out and "dr_grpo" in out and "cluster, gpu, node, tiny" in out
    assert main(["recipes", "grpo"]) == 0
    assert "prompts_per_step" in capsys.readouterr().out
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")
    assert main(["recipes", "mine", "--config-dir", str(tmp_path)]) == 0
    assert "seed: 3" in capsys.readouterr().out
    assert main(["recipes", "grop"]) == 2
    assert "did you mean grpo" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["train", "--help"], ["plan", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert "example" in out and max(map(len, out.splitlines())) <= 120


class Runner:
    """Stands where `raylign.recipes.run` would be imported."""

    seen: tuple[object, object] | None = None

    @classmethod
    def train(cls, run: object, overrides: object) -> int:
        cls.seen = (run, overrides)
        raise RunError("outputs/x is in use")


def test_run_errors_end_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "a_runner", Runner)  # type: ignore[arg-type]
    monkeypatch.setattr(train, "RUNNER", "a_runner")
    assert main(["train", "recipe=grpo", "seed=4"]) == 1
    assert capsys.readouterr().err == "raylign train: outputs/x is in use\n"
    assert Runner.seen is not None and Runner.seen[1] == ["recipe=grpo", "seed=4"]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "raylign.cli", "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout is not None and command.stderr is not None
    command.stdout.close()
    assert (command.stderr.read(), command.wait()) == (b"", 141)


def test_a_broken_pipe_elsewhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> int:
        raise BrokenPipeError(errno.EPIPE, "a worker is gone")

    monkeypatch.setattr("raylign.recipes.run.train", broken)
    with pytest.raises(BrokenPipeError, match="a worker is gone"):
        main(["train", "recipe=grpo", "scale=tiny"])


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "outputs/x/metrics.jsonl")

    monkeypatch.setitem(sys.modules, "a_runner", SimpleNamespace(train=full))  # type: ignore[arg-type]
    monkeypatch.setattr(train, "RUNNER", "a_runner")
    assert main(["train", "recipe=grpo"]) == 1
    told = "no space left on the disk of outputs/x/metrics.jsonl; fix: make room, and the same command continues"
    assert capsys.readouterr().err.startswith(f"raylign train: {told}")


def test_export(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    for number, place in enumerate(("stages/warmup/model", "stages/rl/model", "stages/rl/checkpoints/3/model")):
        shutil.copytree(tiny_model, run / place)
        os.utime(run / place / "config.json", (1e9 + number, 1e9 + number))
    assert newest_model(run) == run / "stages/rl/model"
    target = tmp_path / "out"
    assert main(["export", str(run), "--to", str(target)]) == 0
    assert "loads with AutoModelForCausalLM" in capsys.readouterr().out
    assert (target / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    assert main(["export", str(run), "--to", str(target)]) == 1, "nothing is overwritten"
    (run / "stages/rl/model/model.safetensors").write_bytes(b"broken")
    assert main(["export", str(run), "--to", str(tmp_path / "other")]) == 1
    assert not list(tmp_path.glob("*other*")), "a model that does not load is not left behind"
    with pytest.raises(CheckpointError, match="no finished model"):
        newest_model(run / "stages/rl/checkpoints")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert raylign.__version__ in capsys.readouterr().out


def test_plan_shows_what_the_model_reads_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "recipe=grpo", "scale=tiny", "--no-fit", "--show-prompt"]) == 0
    shown = capsys.readouterr().out
    assert "warmup: first row: 15 tokens, 4 learned\n" in shown
    assert "\n  learned  22 '1'  29 '8'  26 '5'  1 '<|end|>'\n" in shown
    assert "\n  template '<|user|>86 + 99=<|end|><|assistant|>185<|end|>'\n" in shown
    assert "\nbefore, rl, after: prompt of basic_arithmetic[0]: 11 tokens, 0 learned\n" in shown
    assert main(["plan", "recipe=hypo", "scale=tiny", "--no-fit", "--show-prompt"]) == 0
    assert "rejected: 26 tokens, 17 learned\n" in capsys.readouterr().out
