"""Run folders: the same command continues, finished runs are left alone, other settings are refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raylign.config.schema import Config, Resume, RunConfig
from raylign.contracts import StageResult
from raylign.errors import RunError
from raylign.run_folder import RunFolder


def settings(**run: Any) -> Config:
    return Config(recipe="grpo", scale="tiny", run=RunConfig(**run))


RESOLVED = {"recipe": "grpo", "learner": {"optim": {"lr": 1.0}}, "telemetry": {"wandb": False}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_unfinished_is_continued_and_finished_is_left_alone() -> None:
    first = RunFolder.open(settings(), RESOLVED)
    assert first.path.name == "grpo-tiny-seed1" and not first.resumed
    first.close()
    second = RunFolder.open(settings(), RESOLVED)
    assert second.path == first.path and second.resumed
    second.finish({})
    second.close()
    third = RunFolder.open(settings(), RESOLVED)
    assert third.path.name == "grpo-tiny-seed1-2" and not third.resumed
    third.close()


def stepped(folder: RunFolder) -> None:
    """A run that ended after its first step."""
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\n')
    folder.close()


@pytest.mark.parametrize("left", ["metrics.jsonl", "stages/rl/checkpoints/1", "stages/rl/done.json", "finished.json"])
def test_a_run_without_a_step_does_not_keep_its_folder_from_other_settings(left: str) -> None:
    failed = RunFolder.open(settings(dir="mine"), RESOLVED)
    failed.stage("rl")
    (failed.path / "events.jsonl").write_text("{}\n")
    failed.close()
    other = {**RESOLVED, "learner": {"optim": {"lr": 2.0}}}
    mended = RunFolder.open(settings(dir="mine"), other)
    assert not mended.resumed and not (mended.path / "events.jsonl").exists()
    mended.close()
    again = RunFolder.open(settings(dir="mine"), other)
    assert again.resumed
    (again.path / left).parent.mkdir(parents=True, exist_ok=True)
    (again.path / left).write_text("{}")
    again.close()
    with pytest.raises(RunError):
        RunFolder.open(settings(dir="mine"), RESOLVED)


def test_other_settings_get_another_default_folder_but_an_explicit_one_is_refused() -> None:
    stepped(RunFolder.open(settings(dir="mine"), RESOLVED))
    other = {**RESOLVED, "learner": {"optim": {"lr": 2.0}}}
    with pytest.raises(RunError, match=r"learner\.optim\.lr: 1\.0 -> 2\.0"):
        RunFolder.open(settings(dir="mine"), other)
    RunFolder.open(settings(dir="mine"), {**RESOLVED, "telemetry": {"wandb": True}}).close()


def test_roles_may_grow_and_shrink_between_a_run_and_its_resumption() -> None:
    small = {**RESOLVED, "learner": {"ranks": 1, "optim": {"lr": 1.0}}, "rewards": {"a": {"workers": 1, "weight": 1}}}
    RunFolder.open(settings(dir="mine"), small).close()
    large = {**RESOLVED, "learner": {"ranks": 4, "optim": {"lr": 1.0}}, "rewards": {"a": {"workers": 9, "weight": 1}}}
    stepped(RunFolder.open(settings(dir="mine"), large))
    with pytest.raises(RunError, match=r"rewards\.a\.weight: 1 -> 2"):
        RunFolder.open(settings(dir="mine"), {**large, "rewards": {"a": {"workers": 9, "weight": 2}}})


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path: Path, make: Callable[..., None]) -> None:
    target, folder = tmp_path / "target", tmp_path / "mine"
    target.write_text("mine")
    folder.mkdir()
    make(target, folder / ".lock")
    with pytest.raises(RunError, match=r"\.lock is .*; fix: remove it"):
        RunFolder.open(settings(dir="mine"), RESOLVED)
    (folder / ".lock").unlink()
    os.mkfifo(folder / ".lock")
    with pytest.raises(RunError, match="no plain file"):
        RunFolder.open(settings(dir="mine"), RESOLVED)
    assert target.read_text() == "mine"


def test_links_in_a_run_folder_are_replaced_not_followed(tmp_path: Path) -> None:
    target, folder = tmp_path / "target", tmp_path / "mine"
    folder.mkdir()
    for name in ("identity.json", ".identity.json.writing", ".finished.json.writing"):
        (folder / name).symlink_to(target)
    run = RunFolder.open(settings(dir="mine"), RESOLVED)
    run.finish({})
    run.close()
    assert not target.exists() and not (folder / "identity.json").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_run_folder_of_another_user_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    os.chown(tmp_path / "mine", 61000, 61000)
    RunFolder.open(settings(dir="mine"), RESOLVED).close()  # empty: a volume that was mounted
    with pytest.raises(RunError, match=r"belongs to user 61000, .* fix: .*run\.foreign_folder=true"):
        RunFolder.open(settings(dir="mine"), RESOLVED)
    RunFolder.open(settings(dir="mine", foreign_folder=True), RESOLVED).close()


def test_second_process_is_refused() -> None:
    held = RunFolder.open(settings(dir="mine"), RESOLVED)
    with pytest.raises(RunError, match="in use by process"):
        RunFolder.open(settings(dir="mine"), RESOLVED)
    held.close()


def test_resume_modes() -> None:
    with pytest.raises(RunError, match="nothing to continue"):
        RunFolder.open(settings(dir="mine", resume=Resume.must), RESOLVED)
    RunFolder.open(settings(dir="mine"), RESOLVED).close()
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder.open(settings(dir="mine", resume=Resume.never), RESOLVED)


def test_stage_results_survive() -> None:
    folder = RunFolder.open(settings(dir="mine"), RESOLVED)
    assert folder.stage_result("rl") is None
    result = StageResult(steps=3, metrics={"eval/score": 0.5}, artifacts={"model": "x", "rows": "rows.jsonl"})
    folder.finish_stage("rl", result, started_from="y")
    assert folder.stage_result("rl") == result
    folder.close()


def test_a_copied_folder_goes_on_with_what_it_holds_itself(tmp_path: Path) -> None:
    folder = RunFolder.open(settings(dir=str(tmp_path / "a")), RESOLVED)
    made = {"model": str(folder.stage("sft") / "model"), "logs": str(tmp_path / "elsewhere.jsonl")}
    folder.finish_stage("sft", StageResult(steps=1, artifacts=made), "start")
    assert folder.stage_result("sft") == StageResult(steps=1, artifacts=made)
    folder.close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copied = RunFolder.open(settings(dir=str(tmp_path / "b")), RESOLVED)
    result = copied.stage_result("sft")
    assert result is not None and result.artifacts == {
        "model": str(copied.stage("sft") / "model"),
        "logs": made["logs"],
    }
    copied.close()
