"""``raylign plan``: what would run where, and whether it fits, before anything starts."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from raylign.capacity import device_memory
from raylign.cli.options import add_overrides, new_command, say
from raylign.cluster import LOCAL, connect, local_node, shutdown
from raylign.config.compose import compose
from raylign.config.describe import describe
from raylign.config.schema import Config
from raylign.errors import PlanError
from raylign.plan import Plan, make_plan

ROWS = "raylign.recipes.stages.show"  # by name: the ground floor imports no recipe
EPILOG = """\
examples:
  raylign plan recipe=grpo scale=tiny
  raylign plan recipe=grpo scale=cluster cluster.address=auto   checks against the running cluster
  raylign plan recipe=grpo scale=node --no-fit                  prints a plan for a machine that is not this one
  raylign plan recipe=grpo scale=tiny --show-prompt             the first rows of every stage: tokens and loss mask
"""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "plan", "print roles, placement, batch arithmetic and memory of a run", EPILOG)
    add_overrides(parser)
    parser.add_argument("--no-fit", action="store_true", help="do not check the plan against a cluster")
    parser.add_argument("--show-prompt", action="store_true", help="print the first rows as the model reads them")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Print the plan; raises PlanError when it does not fit."""
    run = compose(parsed.overrides, parsed.config_dir)
    plan = make_plan(run)
    if not parsed.no_fit:
        try:
            plan = _fitted(run.config, plan)
        except PlanError:
            say(plan.render())
            say()
            raise
    say(plan.render())
    say()
    say("settings that change the numbers")
    say(describe(run))
    if parsed.show_prompt:
        say()
        say(importlib.import_module(ROWS).first_rows(run))
    return 0


def _fitted(config: Config, plan: Plan) -> Plan:
    if config.cluster.address == LOCAL:
        return plan.check([local_node(config.cluster, plan)], device_memory(config.cluster))
    try:
        return connect(config.cluster, plan)
    finally:
        shutdown()
