"""A real Ray head with a token: submit, refuse, stop, continue, sweep, and the metrics that Prometheus would read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray_head import Head, ray_head

from raylign.checkpoint import Checkpoints
from raylign.jobs.package import stage_package
from raylign.telemetry.recorder import read_lines

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]  # `ray job` finds its head only where no other Ray runs
ROOT = Path(__file__).resolve().parents[2]
STEPS = 200  # more than are made until the job is stopped, also on a quick machine
TINY = [
    "recipe=grpo",
    "scale=tiny",
    "~stages.warmup",
    "~stages.before",
    "model.tiny.hidden_size=64",
    "model.tiny.layers=2",
    "data.size=64",
    "data.holdout=8",
    "rollout.sampling.max_tokens=8",
    "cluster.ready_timeout_s=600",
]
RUN = [
    *TINY,
    "~stages.after",
    f"stages.rl.steps={STEPS}",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=2",
    "stages.rl.eval_every=0",
    "run.save_every=0",
    "telemetry.ray_metrics=true",
]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as running:
        yield running


def command(head: Head, *words: str, module: str = "raylign.cli", token: str | None = None) -> tuple[int, str]:
    environment = head.environment() | ({} if token is None else {"RAY_AUTH_TOKEN": token})
    if token == "":
        del environment["RAY_AUTH_TOKEN"]
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
        cwd=head.folder,
    )
    return done.returncode, done.stdout + done.stderr


def ray_job(head: Head, *words: str) -> str:
    """Ray's own command, as `raylign submit` prints it."""
    environment = head.environment() | {"RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", words[0], "--address", head.address, *words[1:]],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
        cwd=head.folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(holds: Callable[[], object], patience: float = 400.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.3)


def scrape(head: Head) -> str:
    """What Prometheus would read: every target that Ray writes down for it."""
    listed = head.folder / "ray" / "prom_metrics_service_discovery.json"
    text = ""
    for target in [target for entry in json.loads(listed.read_text()) for target in entry["targets"]]:
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=20) as answer:
                text += answer.read().decode()
        except OSError as cause:  # one of the targets may not be up yet; what it lacks fails the assertions
            text += f"# {target}: {cause}\n"
    return text


def test_a_token_that_is_missing_or_wrong_is_one_sentence(head: Head) -> None:
    code, out = command(head, "submit", "--address", head.address, *RUN, "run.dir=/tmp/never", token="")
    assert code == 1 and "wants a token" in out and "fix: export RAY_AUTH_TOKEN=" in out and "Traceback" not in out
    code, out = command(head, "submit", "--address", head.address, *RUN, "run.dir=/tmp/never", token="wrong")
    assert code == 1 and "refuses the token" in out and "Traceback" not in out


def test_submitted_stopped_and_continued(head: Head) -> None:
    folder = head.folder / "run"
    submit = ["submit", "--address", head.address, *RUN, f"run.dir={folder}"]
    code, out = command(head, *submit)
    assert code == 0, out
    shown = dict(re.findall(r"^(\w+) +(.+)$", out, flags=re.MULTILINE))
    job = shown["job"]
    assert shown["dashboard"].startswith(head.address) and job in shown["log"] and job in shown["stop"]
    until(lambda: len(read_lines(folder / "metrics.jsonl")) >= 3)
    code, out = command(head, *submit)
    assert code == 1 and f"job {job} works in {folder}" in out, "two jobs never share a run folder"
    until(lambda: all(name in scrape(head) for name in ("ray_raylign_metric", "ray_node_mem_used")))
    _dashboard_is_fed(scrape(head), folder)
    ray_job(head, "stop", job)
    assert "STOPPED" in ray_job(head, "status", job) + ray_job(head, "list")
    steps = [line["step"] for line in read_lines(folder / "metrics.jsonl")]
    saved = Checkpoints(folder / "stages" / "rl" / "checkpoints", 2).newest()
    assert saved is not None and saved.step == steps[-1] < STEPS, "stopped after a step, and that step is saved"
    log = ray_job(head, "logs", job)
    assert "the same command continues it" in log
    code, out = command(head, *submit, "--wait")
    assert code == 0 and f"{saved.step} done before" in out and "SUCCEEDED" in out, out
    assert [line["step"] for line in read_lines(folder / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert '"resumed"' in (folder / "events.jsonl").read_text()
    assert (folder / "stages" / "rl" / "model" / "model.safetensors").exists()


def _dashboard_is_fed(text: str, folder: Path) -> None:
    """Every series that the dashboard draws and a plain GRPO run can have is there."""
    exported = set(re.findall(r'ray_raylign_metric{[^}]*metric="([^"]+)"', text))
    recorded = {name for line in read_lines(folder / "metrics.jsonl") for name in line}
    assert {"reward/mean", "loss", "entropy", "time/step"} <= exported <= recorded
    assert re.search(r'ray_raylign_step{[^}]*run="run"[^}]*} [1-9]', text)
    dashboard = (ROOT / "docker" / "grafana" / "dashboards" / "raylign.json").read_text()
    drawn = set(re.findall(r'metric=\\"([^"\\]+)\\"', dashboard))
    assert drawn - {"eval/score", "ref_kl"} <= exported, "one needs an evaluation, the other a reference"
    for name in re.findall(r'"(ray_node_\w+)"', dashboard):
        assert name in text


def test_plain_ray_job_submit(head: Head) -> None:
    package = stage_package(head.folder / "build" / "pkg")
    (package / "cli" / "recipes.py").write_text((package / "cli" / "recipes.py").read_text() + "\nEDITED = True\n")
    program = "import raylign.cli.recipes as r; print(r.__file__, r.EDITED)"
    runtime = json.dumps({"py_modules": ["build/pkg/raylign"]})
    out = ray_job(head, "submit", "--runtime-env-json", runtime, "--", "python", "-c", program)
    assert re.search(r"_ray_pkg_\w+/raylign/cli/recipes\.py True", out), (
        "the folder that was sent is the code that runs"
    )


def test_a_sweep_of_jobs(head: Head) -> None:
    base = head.folder / "sweep"
    words = ["train", "-m", "sweep=ray_jobs", *TINY, "~stages.rl", "model.tiny.seed=1,2", f"sweep.dir={base}"]
    words += [f"sweep.launcher.address={head.address}", "-j", "2"]
    code, out = command(head, *words)
    assert code == 0, out
    kept = json.loads((base / "results.json").read_text())
    assert [point["status"] for point in kept["points"]] == [0, 0] and kept["best"] in ("000", "001")
    assert "best: " in out and (base / "results.csv").exists()
    before = ray_job(head, "list").count("submission_id=")
    (base / "finished.json").unlink()
    code, out = command(head, *words)
    assert code == 0 and out.count("was finished before") == 2
    assert ray_job(head, "list").count("submission_id=") == before, "finished points are not submitted again"
