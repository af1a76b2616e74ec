"""Whom an audit asks about how much, in words: for plans and for the start of a run."""

from __future__ import annotations

from raylign.config.resolve import Run


def audit_cost(run: Run) -> str:
    """What each grader is asked about in a step: ``asked about 51 of 512 samples a step of rl``."""
    share, stages = run.config.audit.share, run.audited
    steps = [(stage.name, stage.batch.prompts_per_step * stage.batch.group_size) for stage in stages if stage.batch]
    told = [f"{share * samples:.3g} of {samples:,} samples a step of {name}" for name, samples in steps]
    others = [stage.name for stage in stages if not stage.batch]
    told += [f"{share:.3g} of the samples of {', '.join(others)}"] if others else []
    return f"asked about at most {'; '.join(told)}"


def audit_summary(run: Run) -> str:
    """Graders and how much they see; empty without any. Where no stage samples it says that nothing is audited."""
    graders = run.config.audit.graders
    if not graders:
        return ""
    names = ", ".join(
        f"{name} ({str(grader.fn.get('_target_', '')).rpartition('.')[2]})" for name, grader in graders.items()
    )
    if not run.audited:
        return f"NOTHING IS AUDITED by {names}: no stage of this run samples what rewards score; add one that evaluates"
    return f"{names}: {audit_cost(run)}"
