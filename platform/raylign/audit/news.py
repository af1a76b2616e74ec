"""What is told once, in the step in which a watch finds it out."""

from __future__ import annotations

from typing import Any

from raylign.audit.graded import News
from raylign.audit.start import Start
from raylign.audit.watch import Milestones, Watch


def news_of(watch: Watch, before: Milestones, grader: str, domain: str, held_out: bool) -> list[News]:
    """The milestones of a watch that it had not passed `before`."""
    of = {"grader": grader, "domain": domain, "held_out": held_out}
    who = f"audit by {grader}" + (f" in {domain}" if domain else "") + (" (held-out)" if held_out else "")
    now, told = watch.milestones, list[News]()
    if watch.start is not None and not before.began:
        told.append(_began(watch.start, who, of))
    if now.appeared is not None and before.appeared is None:
        message = f"{who}: the first exploit is of step {now.appeared}"
        told.append(News(kind="exploit_appeared", message=message, facts={**of, "first": now.appeared}))
    if now.dominated is not None and before.dominated is None:
        message = f"{who}: most audited samples are exploits since step {now.dominated}"
        told.append(News(kind="exploit_dominates", message=message, facts={**of, "since": now.dominated}))
    return told


def _began(start: Start, who: str, of: dict[str, Any]) -> News:
    """The start is known: what is high and what is low from now on."""
    limits = {"reward_from": start.high_reward, "grade_to": start.low_grade, "samples": len(start.grades)}
    message = ""
    if start.constant:
        limits["same"] = start.grades[0]
        message = f"{who}: all {len(start.grades)} first grades are {start.grades[0]:g}, which tells nothing apart yet"
    return News(kind="audit_start", message=message, facts={**of, **limits})
