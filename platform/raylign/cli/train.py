"""``raylign train``: compose, check, run; with ``-m`` a sweep."""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any

from raylign.cli.options import add_overrides, new_command
from raylign.config.compose import compose
from raylign.homes import give_home
from raylign.sweeps.drive import sweep

RUNNER = "raylign.recipes.run"  # by name: the ground floor imports no recipe
EPILOG = """\
examples:
  raylign train recipe=grpo scale=tiny seed=2
  raylign train recipe=grpo scale=tiny run.dir=runs/mine     again: continues it where it was
  raylign train -m recipe=grpo variant=grpo,rloo learner.optim.lr=1e-4,3e-4      again: continues the sweep
  raylign train -m sweep=optuna recipe=grpo 'learner.optim.lr=tag(log,interval(1e-5,1e-3))' sweep.sampler.trials=30
  raylign train --config-dir my_conf recipe=mine             my_conf/recipe/mine.yaml
"""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "train", "run a recipe, or continue it", EPILOG)
    add_overrides(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: every combination of comma lists")
    parser.add_argument("-j", "--jobs", type=int, default=0, metavar="N", help="points of a sweep at a time")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    if parsed.multirun:
        parallel = [f"sweep.launcher.parallel={parsed.jobs}"] if parsed.jobs else []
        return sweep([*parsed.overrides, *parallel], parsed.config_dir)
    run = compose(parsed.overrides, parsed.config_dir)
    give_home(run.config.run.cache_dir)
    _quiet_libraries()
    return int(importlib.import_module(RUNNER).train(run, parsed.overrides))


def _quiet_libraries() -> None:
    """Third-party switches that are read at import and that no run wants otherwise; a value set outside stays."""
    for name, value in {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }.items():
        os.environ.setdefault(name, value)
