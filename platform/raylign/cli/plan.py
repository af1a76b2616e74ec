"""``raylign plan``: what would run where, and whether it fits, before anything starts."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylign.capacity import UNKNOWN, device_memory
from raylign.cli.options import add_overrides, new_command, say
from raylign.cli.stage_table import stage_table
from raylign.cluster import LOCAL, connect, local_gpus, local_node, shutdown, without_gpus
from raylign.config.compose import compose
from raylign.config.describe import describe
from raylign.config.findings import Findings
from raylign.config.model_rules import lacking_rules
from raylign.config.schema import Config
from raylign.errors import NoClusterError, PlanError
from raylign.models.tokenizer_check import holds_tokenizer
from raylign.plan import Plan, make_plan
from raylign.telemetry.summary import summary
from raylign.telemetry.table import table

CHECKS, SHOW = "raylign.recipes.checks", "raylign.recipes.stages.show"  # by name: no recipe is imported here
MADE = 64  # rows of a task or a generator that a plan reads; files are read whole
EPILOG = """\
examples:
  raylign plan recipe=grpo scale=tiny
  raylign plan recipe=grpo scale=tiny --all                     every setting, defaults included
  raylign plan recipe=grpo scale=cluster cluster.address=auto   checks against the running cluster
  raylign plan recipe=grpo scale=node --no-fit                  prints a plan for a machine that is not this one
  raylign plan recipe=grpo scale=node cluster.gpu_memory_gb=80  checks the memory of GPUs that are not here
  raylign plan recipe=grpo scale=tiny --show-prompt             the first rows of every stage: tokens and loss mask

A model's folder needs no weights to be planned: its config.json says how large it is.
"""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "plan", "print roles, placement, batch arithmetic and memory of a run", EPILOG)
    add_overrides(parser)
    parser.add_argument("--no-fit", action="store_true", help="do not check the plan against this machine or a cluster")
    parser.add_argument("--all", action="store_true", help="print every setting, defaults included")
    parser.add_argument("--show-prompt", action="store_true", help="print the first rows as the model reads them")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Print the plan; raises PlanError when it does not fit."""
    run = compose(parsed.overrides, parsed.config_dir, to_run=parsed.show_prompt)
    config, unread = run.config, _without_tokenizer(run.config.model.path)
    plan, against = make_plan(run), ""
    reading = None if unread else importlib.import_module(CHECKS).check(run, MADE)
    say(summary(run, plan))
    say()
    try:
        plan, against = _checked(config, plan, parsed.no_fit)
    except PlanError:
        say(render(plan))
        say()
        raise
    say(render(plan))
    say(f"\nstages, in this order\n{stage_table(run)}")
    if reading:
        say("\ndata\n" + "\n".join(reading.reports))
    for note in _notes(config, plan, against, unread):
        say(note)
    if parsed.all:
        say()
        say(describe(run))
    if parsed.show_prompt:
        say()
        say(importlib.import_module(SHOW).first_rows(reading))
    return 0


def _checked(config: Config, plan: Plan, no_fit: bool) -> tuple[Plan, str]:
    """The plan with its places, and what it was checked against where that is not the cluster that will run it.

    GPUs that are not here are checked by their memory, where it is set. Raises PlanError when it does not fit.
    """
    cluster, described = config.cluster, bool(plan.gpus and config.cluster.gpu_memory_gb)
    if no_fit:
        return _on_described(config, plan) if described else (plan, "not checked against any machine")
    if cluster.address == LOCAL:
        if described and not local_gpus():
            checked, against = _on_described(config, plan)
            return checked, f"{against}; this machine has none"
        return plan.check([local_node(cluster, plan)], device_memory(cluster)), ""
    try:
        return connect(cluster, plan), ""
    except PlanError as cause:
        absent = isinstance(cause, NoClusterError)
        if not described or not (absent or without_gpus()):
            raise
        checked, against = _on_described(config, plan)
        return checked, f"{against}; {'there is no Ray cluster' if absent else 'the cluster has none'}"
    finally:
        shutdown()


def _on_described(config: Config, plan: Plan) -> tuple[Plan, str]:
    """Checked against the fewest GPUs that hold it, of the memory that is set."""
    nodes = plan.machines()
    gpus = sum(int(node["GPU"]) for node in nodes)
    where = f"{gpus} GPU{'s' * (gpus != 1)} of {config.cluster.gpu_memory_gb:g} GiB in {len(nodes)} machine(s)"
    return plan.check(nodes, config.cluster.gpu_memory_gb), f"checked against {where}, as set"


def _without_tokenizer(path: str) -> str:
    """Why the rows cannot be read here; empty when they can. A folder may be planned by its config.json alone."""
    folder = Path(path).expanduser()
    lacking = bool(path) and folder.is_dir() and not holds_tokenizer(folder)
    return f"the data are not read: {path} has no tokenizer" if lacking else ""


def _notes(config: Config, plan: Plan, against: str, unread: str) -> list[str]:
    """Notes below the plan, one per line."""
    lacks = Findings()
    lacking_rules(config, lacks)
    notes = [f"{problem.key} {problem.why}: planned from its config.json; a run needs them" for problem in lacks]
    unchecked = [UNKNOWN] if plan.gpus and not plan.loads else []
    return [f"note: {note}" for note in [against, unread, *unchecked, *notes] if note]


def render(plan: Plan) -> str:
    """The plan as tables of plain text."""
    first, rows = 0, []
    for role in plan.roles:
        where = sorted(set(plan.nodes[first : first + role.actors]))
        first += role.actors
        memory = f"{role.memory_gb:.2f}" if role.memory_gb else "-"
        rows.append([role.name, role.actors, role.cpus, role.gpus, _ranges(where), memory, role.memory])
    rows.append(["total", len(plan.bundles), round(plan.cpus, 3), round(plan.gpus, 3), "", "", plan.strategy])
    headers = ["role", "actors", "CPUs each", "GPUs each", "node", "GiB each", "of which"]
    text = f"roles, one placement group\n{table(headers, rows)}"
    if plan.loads:
        headers = ["GPUs", "GiB needed", "of usable", "left", "by"]
        loads = [
            [each.gpus, f"{each.total:.1f}", f"{each.usable:.1f}", f"{each.usable - each.total:.1f}", each]
            for each in plan.loads
        ]
        text += f"\n\nmemory of GPUs of {plan.loads[0].device:g} GiB, the fullest first\n{table(headers, loads)}"
    if plan.batches:
        headers = ["stage", "steps", "prompts", "samples", "tokens at most", "updates", "samples/update"]
        lines = [
            [b.stage, b.steps, b.prompts, b.samples, b.max_tokens, b.updates, b.samples_per_update]
            for b in plan.batches
        ]
        text += f"\n\nevery step\n{table(headers, lines)}"
    return text


def _ranges(numbers: Sequence[int]) -> str:
    if not numbers:
        return "?"
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
