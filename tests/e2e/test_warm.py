"""Which workers of the tests' cluster are forked from the warm process, and that a fork is what Ray asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
from warm_start import COLD, PLACE

from raylign.actor_env import actor_env

START = Path(warm.__file__).with_name("warm_start.py")
WORKER = """
import json, os, sys
told = {"parent": os.getppid(), "pid": os.getpid(), "arguments": sys.argv[1:], "mine": os.environ.get("MINE")}
told["paths"] = sys.path[1:3]
print(json.dumps(told | {"name": __name__, "numpy": "numpy" in sys.modules}))
"""


@pytest.fixture(scope="module")
def parent() -> Iterator[int]:
    process = warm.start(["numpy"])
    yield process.pid
    process.kill()
    process.wait()


def worker(folder: Path, **variables: str) -> dict[str, object]:
    """What a worker says that Ray starts with these variables."""
    script = folder / "default_worker.py"
    script.write_text(WORKER)
    context = {"env_vars": {**actor_env(1, gpu=False), **variables}, "py_executable": sys.executable}
    command = [sys.executable, str(START), str(script), "--worker-id=7", "--language=PYTHON"]
    command.append(f"--serialized-runtime-env-context={json.dumps(context)}")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_worker_is_forked_with_its_arguments_and_environment(parent: int, tmp_path: Path) -> None:
    first, second = worker(tmp_path, MINE="1"), worker(tmp_path)
    assert first["parent"] == second["parent"] == parent and first["pid"] != second["pid"]
    assert first["arguments"] == ["--worker-id=7"] and first["name"] == "__main__" and first["numpy"]
    assert first["mine"] == "1" and second["mine"] is None  # nothing of one worker is left to the next


def test_a_forked_worker_looks_where_it_was_told_to(parent: int, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    told = worker(tmp_path, PYTHONPATH=os.pathsep.join([here, there]))
    assert told["parent"] == parent and told["paths"] == [here, there]
    assert not {here, there} & set(worker(tmp_path)["paths"])  # type: ignore[call-overload]


@pytest.mark.parametrize("variables", [{COLD: "1"}, {"OMP_NUM_THREADS": "2"}, {"VLLM_USE_V2_MODEL_RUNNER": "0"}])
def test_a_worker_that_imports_otherwise_starts_as_ray_starts_it(
    parent: int, tmp_path: Path, variables: dict[str, str]
) -> None:
    told = worker(tmp_path, **variables)
    assert told["parent"] != parent and told["arguments"] == ["--worker-id=7"] and not told["numpy"]


@pytest.mark.parametrize("module", warm.LATER)
def test_what_differs_by_worker_is_never_imported_ahead(tmp_path: Path, module: str) -> None:
    command = [sys.executable, warm.__file__, str(tmp_path / "socket"), str(os.getpid()), module]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, PLACE: ""})
    assert done.returncode != 0 and "must be imported by each worker itself" in done.stderr
