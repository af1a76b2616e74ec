"""What travels with a job and what is refused, without any cluster."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from raylign.cli import main
from raylign.cli.submit import environment_of
from raylign.errors import ConfigError
from raylign.jobs.client import cluster_token
from raylign.jobs.package import (
    CONFIG_DIR,
    LIMIT_MB,
    SHIPPED,
    content_hash,
    relative_files,
    run_dir_warning,
    stage_package,
    stage_working_dir,
)
from raylign.jobs.submission import Baggage, check_for_cluster, make_job

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"": "platform/raylign", "actors": "actors", "recipes": "recipes", "conf": "conf"}


def test_the_staged_package_is_the_whole_package(tmp_path: Path) -> None:
    package = stage_package(tmp_path / "pkg")
    staged = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    expected = {
        str(Path(prefix) / path.relative_to(ROOT / place))
        for prefix, place in PLACES.items()
        for path in (ROOT / place).rglob("*")
        if path.suffix in SHIPPED and "__pycache__" not in path.parts
    }
    assert staged == expected and "cli/__main__.py" in staged and "conf/recipe/grpo.yaml" in staged
    first = content_hash(package)
    assert content_hash(stage_package(tmp_path / "again")) == first, "neither place nor time is part of it"
    (package / "loop.py").write_text("changed = True\n")
    assert content_hash(package) != first


def test_what_a_wheel_installs_travels_with_a_job() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = {Path(name).suffix or ".typed" for name in project["tool"]["setuptools"]["package-data"]["*"]}
    assert set(SHIPPED) == {".py", *installed}


def test_the_rule_of_paths(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "sub/rows.jsonl", "model/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    resolved = {
        "data": {"path": "rows.jsonl", "eval_path": "/shared/rows.jsonl"},
        "model": {"path": "Qwen/Qwen3-0.6B"},
        "stages": {"a": {"pairs_path": "sub/rows.jsonl"}, "b": {"path": "absent.jsonl"}},
        "frozen": {"reference": {"path": "@warmup"}, "teacher": {"path": "model"}},
        "run": {"dir": "sub"},
    }
    files, problems = relative_files(resolved, tmp_path)
    assert files == ["rows.jsonl", "sub/rows.jsonl"]
    assert [problem.key for problem in problems] == ["frozen.teacher.path"] and "is a folder" in problems[0].why
    _, problems = relative_files({"data": {"path": "../rows.jsonl"}}, tmp_path / "sub")
    assert "leads out" in problems[0].why


def test_the_working_directory(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "mine").mkdir(parents=True)
    (here / "mine" / "rewards.py").write_text("x = 1\n")
    (here / "rows.jsonl").write_text("{}\n")
    (tmp_path / "conf" / "recipe").mkdir(parents=True)
    (tmp_path / "conf" / "recipe" / "a.yaml").write_text("seed: 1\n")
    target = tmp_path / "target"
    assert stage_working_dir(target, ["rows.jsonl", "mine", "rows.jsonl"], here, str(tmp_path / "conf")) == []
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {"rows.jsonl", "mine/rewards.py", f"{CONFIG_DIR}/recipe/a.yaml"}
    absent, outside = stage_working_dir(tmp_path / "b", ["nothing.py", str(here / "rows.jsonl")], here)
    assert "does not exist" in absent.why and "not below" in outside.why
    with (here / "large.jsonl").open("wb") as stream:
        stream.truncate((LIMIT_MB + 1) * 2**20)
    (large,) = stage_working_dir(tmp_path / "c", ["large.jsonl"], here)
    assert f"a job carries {LIMIT_MB}" in large.why


def test_all_problems_at_once_and_no_cluster_is_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["recipe=grpo", "scale=tiny", "learner.optim.lrr=2", "data.path=nothere.jsonl", "run.dir=runs/a"]
    assert main(["submit", "--address", "http://127.0.0.1:9", *arguments]) == 2
    err = capsys.readouterr().err
    assert "3 problem(s)" in err and "did you mean learner.optim.lr?" in err and "nothere.jsonl" in err
    assert "run.dir=/shared/runs/NAME" in err
    os.environ.pop("RAY_API_SERVER_ADDRESS", None)


def test_no_job_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:7")
    assert main(["submit", "--address", "http://127.0.0.1:9", "recipe=grpo", "run.dir=/tmp/a"]) == 1
    captured = capsys.readouterr()
    assert "no job server answers at http://127.0.0.1:9" in captured.err, "the command line wins over the environment"
    assert "warning: /tmp/a is temporary" in captured.out


def test_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    checked = check_for_cluster(
        ["recipe=grpo", "scale=tiny", "data.path=rows.jsonl", "data.holdout=1", "run.dir=/shared/a"]
    )
    assert checked.overrides[-1] == "cluster.address=auto" and checked.files == ("rows.jsonl",)
    job = make_job(checked, Baggage(environment={"HF_HOME": "/shared/hf"}), tmp_path / "staging")
    assert job.entrypoint.startswith("exec python -m raylign.cli train recipe=grpo")
    assert job.runtime_env["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "120", "HF_HOME": "/shared/hf"}
    (package,) = job.runtime_env["py_modules"]
    assert Path(package).name == "raylign" and job.metadata["code"] == content_hash(Path(package))
    assert [path.name for path in Path(job.runtime_env["working_dir"]).iterdir()] == ["rows.jsonl"]
    assert job.metadata["run_dir"] == "/shared/a" and job.id.startswith("grpo-")
    image = make_job(checked, Baggage(code="image"), tmp_path / "other")
    assert "py_modules" not in image.runtime_env and image.metadata["code"] == "image"


def test_what_is_not_on_this_machine_may_be_on_the_cluster() -> None:
    checked = check_for_cluster(["recipe=grpo", "scale=tiny", "data.path=/shared/absent.jsonl", "run.dir=/shared/a"])
    assert [warning.split(" is ")[0] for warning in checked.warnings] == ["data.path = /shared/absent.jsonl"]
    with pytest.raises(ConfigError, match=r"absent\.jsonl"):
        check_for_cluster(["recipe=grpo", "scale=tiny", "data.path=absent.jsonl", "run.dir=/shared/a"])


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "token"
    file.write_text("abc\n")
    assert cluster_token({}) == ""
    assert cluster_token({"RAY_AUTH_TOKEN": "x"}) == "x"
    assert cluster_token({"RAY_AUTH_TOKEN_PATH": str(file)}) == "abc"
    assert cluster_token({"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}) == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home")
    assert cluster_token({}) == "home"


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_HERE", "1")
    assert environment_of(["SET_HERE", "OTHER=a=b"]) == {"SET_HERE": "1", "OTHER": "a=b"}
    with pytest.raises(ConfigError, match="write --env NOT_SET=VALUE"):
        environment_of(["NOT_SET"])


def test_private_folders() -> None:
    assert run_dir_warning("/tmp/a") and run_dir_warning("/dev/shm/a")
    assert not run_dir_warning("/shared/tmp/a") and not run_dir_warning("/tmpfs/a")
