"""What is told once, in the step in which a watch finds it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylign.audit.graded import News
from raylign.audit.start import Start
from raylign.audit.watch import Milestones, Watch
from raylign.records import Group

FEW, ZERO = 8, 1e-3  # groups that must all be centred; their mean, in deviations


CENTRED = News(
    kind="audit_centred",
    message="audit: the shaper centres its scores within each group, so that no reward can be high by itself and none "
    "can rise: exploits are told by chance, and their alarm is blind",
    facts={},
)


def centred(groups: Sequence[Group]) -> bool:
    """Whether the scores of every group add up to 0, of at least `FEW` groups."""
    scores = [[score for score in group.scores if score is not None] for group in groups]
    scores = [of_group for of_group in scores if len(of_group) > 1]
    if len(scores) < FEW:
        return False
    spread = float(np.std([score for of_group in scores for score in of_group]))
    return spread > 0 and all(abs(float(np.mean(of_group))) < ZERO * spread for of_group in scores)


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
