"""What must hold for adapters that engines are sent beside their weights."""

from __future__ import annotations

from raylign.config.findings import Findings
from raylign.config.resolve import Run

MOST_SENT = 512  # the highest rank that vLLM has room for


def adapter_problems(run: Run) -> Findings:
    """Of all stages that send adapters."""
    problems = Findings("")
    for stage in run.stages:
        if stage.lora is None or not stage.lora.sent:
            continue
        why = "is more than engines take beside their weights; merged into them any rank is sent"
        problems.at_most(f"{stage.key}.lora.rank", stage.lora.rank, MOST_SENT, why)
        why = "is what engines are sent, and this stage asks none"
        fix = f"leave {stage.key}.lora.sync out"
        problems.expect("rollout" in stage.roles, f"{stage.key}.lora.sync", "adapter", why, fix)
        parallel = run.config.rollout.tensor_parallel
        why = "sends adapters to engines of several ranks, which nobody has proven yet"
        fix = f"set {stage.key}.lora.sync=merged, or rollout.tensor_parallel=1"
        problems.expect(parallel == 1, f"{stage.key}.lora.sync", "adapter", why, fix)
    return problems
