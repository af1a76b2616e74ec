"""A reward proves itself before a run starts: gold responses score the maximum, wrong ones do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome, checked, describe_error, failed
from raylign.actors.reward.response import trajectory_of
from raylign.chat.messages import message_of
from raylign.contracts import RewardFunction
from raylign.records import Absent, Missing, Prompt, Reward

SAMPLE = 16  # prompts that are tried
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One response whose score is known in advance; expect: ``gold``, ``wrong`` or ``any`` (only that it scores).

    Example: ``Probe(prompt=prompt, response="#### 18", expect="gold", maximum=1.0)``
    """

    prompt: Prompt
    response: str
    expect: str
    maximum: float

    @property
    def item(self) -> Item:
        """The probe as something to score."""
        return (self.prompt, (trajectory_of(self.prompt, self.response),))

    def problem(self, outcome: Outcome) -> str | None:
        """What is wrong with the outcome, or None."""
        if isinstance(outcome, Failed):
            return f"{self._name} fails ({outcome.kind.value}): {outcome.reason}"
        if outcome[0] is None:
            return None  # a reward that does not apply proves nothing, and need not
        score = outcome[0].score
        if self.expect == "gold" and abs(score - self.maximum) > TOLERANCE:
            return f"{self._name} scores {score:g}, not the maximum {self.maximum:g}"
        if self.expect == "wrong" and score >= self.maximum - TOLERANCE:
            return f"{self._name} scores {score:g}, the maximum"
        return None

    @property
    def _name(self) -> str:
        kind = {"gold": "the gold response", "wrong": "a wrong response"}.get(self.expect, "a response")
        return f"prompt {self.prompt.id}: {kind} {self.response[-80:]!r}"


def probes(function: RewardFunction, prompts: Sequence[Prompt], limit: int = SAMPLE) -> tuple[list[Probe], list[str]]:
    """What to try on at most `limit` prompts, and the problems met while asking the function for its responses."""
    trials: list[Probe] = []
    problems: list[str] = []
    if not function.judges_text:
        return trials, problems
    for prompt in sample(prompts, limit):
        try:
            gold, wrong = function.gold(prompt), function.wrong(prompt)
        except Exception as error:  # noqa: BLE001 - becomes a problem
            problems.append(f"prompt {prompt.id}: {describe_error(error)}")
            continue
        texts = [("gold", gold), ("wrong", wrong)]
        if gold is None and wrong is None:
            # Nothing is known about its scores; it must still be able to score.
            texts = [("any", _shown(prompt))]
        trials += [
            Probe(prompt=prompt, response=text, expect=kind, maximum=function.maximum)
            for kind, text in texts
            if text is not None
        ]
    return trials, problems


def outcome_of(reward: Reward) -> Outcome:
    """The outcome behind the reward of a single trajectory."""
    if isinstance(reward, Missing):
        return Failed(kind=FailureKind.ERROR, reason=reward.reason)
    return (None if isinstance(reward, Absent) else reward,)


def sample(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """At most `limit` prompts, spread over the verifiers and domains, and over each one's prompts."""
    kinds: dict[tuple[str, str], list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault((str(prompt.meta.get("verifier")), prompt.domain), []).append(prompt)
    spread = [members[:: max(1, len(members) // limit)] for members in kinds.values()]
    interleaved = [prompt for row in zip_longest(*spread) for prompt in row if prompt is not None]
    return interleaved[:limit]


def validate(function: RewardFunction, prompts: Sequence[Prompt], limit: int = SAMPLE) -> list[str]:
    """Every problem of a function, tried here without isolation or deadline; empty when it is sound."""
    trials, problems = probes(function, prompts, limit)
    for probe in trials:
        outcome: Outcome
        try:
            outcome = checked(function.score(*probe.item), probe.item[1])
        except Exception as error:  # noqa: BLE001 - becomes a problem
            outcome = failed(error)
        problem = probe.problem(outcome)
        problems += [] if problem is None else [problem]
    return problems


def _shown(prompt: Prompt) -> str:
    """A text that a response might be: the target's, or the answer."""
    target = prompt.meta.get("target")
    said = target[-1] if isinstance(target, list | tuple) else target
    return str((said and message_of(said).get("content")) or prompt.answer or "")
