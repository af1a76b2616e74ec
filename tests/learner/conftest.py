"""One running group of ranks per module and size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from learner_cases import learner_config, run

PATHS = [path for path in [os.environ.get("PYTHONPATH")] if path]


@pytest.fixture(scope="module")
def start_group(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Any]]:
    """A function from a number of ranks to a running group, reused within the module and closed at its end."""
    from raylign.actors.learner.group import LearnerGroup

    groups: dict[int, Any] = {}
    log_dir = tmp_path_factory.mktemp("logs")

    def start(ranks: int) -> Any:
        if ranks not in groups:
            config = learner_config(ranks=ranks)
            here = {
                "env_vars": {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *PATHS])}
            }  # kinds of a test
            options = {"num_cpus": 0.5, "runtime_env": here}
            groups[ranks] = LearnerGroup(f"test{ranks}", config, log_dir=log_dir, options=lambda rank: options)
            run(groups[ranks].start())
        return groups[ranks]

    yield start
    for group in groups.values():
        run(group.close())
