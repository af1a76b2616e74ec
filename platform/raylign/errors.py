"""Errors that name what is wrong and how to fix it. All can be pickled: they cross from actor to actor."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

OUT_OF_MEMORY = (
    "the machine ran out of memory and Ray ended a process; fix: fewer or smaller workers (rollout.workers, "
    "rollout.kv_cache_gb, learner.ranks, rewards.NAME.workers), or a machine with more memory"
)


def no_space(place: object, free: int | None = None) -> str:
    """The message about a full disk. free: bytes that are left."""
    left = "" if free is None else f" ({free / 1e6:.1f} MB free)"
    again = "the same command continues from the newest whole checkpoint"
    return f"no space left on the disk of {place}{left}; fix: make room, and {again}"


def said_of(error: OSError) -> str:
    """One line about what a machine refuses: room, or permission. Empty for any other error."""
    place = error.filename or "this run"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(place)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
        return (
            f"{place} cannot be used ({error.strerror}); fix: give this user the right to it, or name other places: "
            "run.dir, run.cache_dir, and HOME or TMPDIR of the process"
        )
    return ""


class RaylignError(Exception):
    """Root of every error that the platform raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a configuration.

    Example: ``Problem(key="rollout.workers", value="0", why="must be at least 1", fix="set rollout.workers=1")``
    """

    key: str
    value: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value}: {self.why}\n    fix: {self.fix}"


class ConfigError(RaylignError):
    """The configuration cannot run; carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s) in the configuration:\n{lines}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class PlanError(RaylignError):
    """The cluster is too small for the plan, or the plan's arithmetic is impossible."""


class NoClusterError(PlanError):
    """There is no Ray cluster at the address that was set."""


class DataError(RaylignError):
    """A data file is missing, empty, truncated, or lacks a column."""


class RewardError(RaylignError):
    """A reward function is broken (raises on every input, returns NaN, returns the wrong number of values)."""


class EngineDeadError(RaylignError):
    """An inference engine died or was left unusable by a failed weight update; it must be rebuilt."""


class LearnerError(RaylignError):
    """A learner rank failed or missed its deadline; the group is dead and must be restarted."""


class LoadError(LearnerError):
    """A model could not be made of its files or settings: the next try would fail the same way."""


class CheckpointError(RaylignError):
    """No valid checkpoint where one is needed, or a checkpoint that does not fit this run."""


class RunError(RaylignError):
    """The run folder is in use, finished, or belongs to another configuration."""


class RequestError(RaylignError):
    """One request cannot be served (prompt longer than the context, bad grammar); the engine lives on."""


class EnvironmentLost(RaylignError):
    """An episode's environment raised, hung, or died with its process; the episode is taken up again elsewhere."""


class SandboxError(RaylignError):
    """A sandbox cannot isolate, or failed itself; says nothing about the program that was to run."""


class JudgeError(RaylignError):
    """A judge gave no verdict. What depends on it is Missing, never a score."""


class JudgeUnavailable(JudgeError):
    """The judge could not be reached, or refused the request, after all retries."""


class JudgeUnreadable(JudgeError):
    """The judge answered, but never in the form that was asked for: an error of the judge, not of who is judged."""


class NotFinite(JudgeUnreadable):
    """A judge scored ids, and some of their log-probs are infinite or no numbers: it holds them to be impossible."""


class ToolFailure(RaylignError):
    """A tool's own machinery broke; a call that makes no sense is answered instead."""
