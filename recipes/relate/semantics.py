"""Correctness, relevance and risk of an ad, with the words that are to blame, by rules and a judge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.client import Judge, judge_problems
from raylign.actors.reward.scripts import folded, phrase, with_places
from raylign.chat.thoughts import answer_text, blanked
from raylign.config.resolve import Run
from raylign.config.schema import Node
from raylign.contracts import RewardFunction
from raylign.data.questions import conversation_of
from raylign.errors import DataError, JudgeUnreadable, Problem
from raylign.recipes.relate.numbers import NUMBER, is_stated, stated
from raylign.recipes.relate.verdicts import CHECKS, SCHEMA, Verdicts, judge_question, read_verdicts
from raylign.records import Prompt, Span, Trajectory, Value

Places = list[tuple[int, int]]  # [start, end) in a text


class Unreadable(Enum):
    """What a judge's reply that is never in form counts for, once it has had all its tries."""

    missing = "missing"  # the text has no verdict, and its sample leaves the group
    passes = "passes"  # nothing is held against the text; counted as ``judge/unreadable``


class Semantics(RewardFunction):
    """C = 1 where no check fails, else 0; every token of a span that fails check v has -penalty[v], and where a failed
    check names no place, every token of the text has -penalty[v] / |y| (|y|: all tokens that were sampled).

    Rules come first, and are final: risk: phrases of `banned`, and of the prompt's column `forbidden`; relevance:
    phrases of `claims` that the prompt does not contain; correctness: numbers that it does not contain. The judge, if
    there is one, may fail a text for more. Spans of one check that touch are one.

    Details: ``failed`` (checks), ``spans`` (check -> [[start, end], ...]), ``unplaced`` (failed without a place),
    ``unmatched`` (spans of the judge that the text does not contain), ``dropped`` (its spans of unknown checks, and of
    those that it passes), ``judge/…`` (what asking it cost).
    """

    scores_tokens = True

    @dataclass
    class Config:
        """Rules, penalties, and who judges (fields of `raylign.actors.judge.client.Judge.Config`)."""

        banned: list[str] = field(default_factory=list)  # phrases
        banned_path: str = ""  # a file with one phrase a line
        claims: list[str] = field(default_factory=list)  # phrases that a text may use where its prompt has them
        claims_path: str = ""
        forbidden: str = ""  # a column of the prompts' rows: phrases that this product's ads may not use
        numbers: bool = True  # a number that the prompt does not have fails `correctness`
        whole_words: bool = True  # a phrase begins and ends no word or number in two, where spaces part words
        penalty: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHECKS, 1.0))  # kappa
        judge: Node = field(default_factory=dict)  # empty: rules alone
        policy: list[str] = field(default_factory=list)  # what the judge is told beside its own rules, line by line
        unreadable: Unreadable = Unreadable.missing

        def __post_init__(self) -> None:
            if set(self.penalty) != set(CHECKS) or min(self.penalty.values()) < 0:
                raise ValueError(f"penalty={self.penalty} must have a number of 0 or more for {', '.join(CHECKS)}")

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The judge must be one."""
        return judge_problems(f"{key}.judge", config.judge) if config.judge else []

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._judge = BlockingJudge(config.judge) if config.judge else None
        self._banned = self._pattern([*config.banned, *_lines(config.banned_path)])
        self._claims = self._pattern([*config.claims, *_lines(config.claims_path)])

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value for each. Raises ValueError on several calls, and JudgeError without the judge's verdict."""
        return [self._value(prompt, trajectory) for trajectory in trajectories]

    def wrong(self, prompt: Prompt) -> str | None:
        """A banned phrase, where any is known."""
        return next(iter([*self.config.banned, *_lines(self.config.banned_path)]), None)

    def _value(self, prompt: Prompt, trajectory: Trajectory) -> Value:
        if len(trajectory.calls) != 1:
            raise ValueError(f"an ad is one call of the policy, and this sample has {len(trajectory.calls)}")
        text = blanked(trajectory.text, prompt.thinks)  # places stay those of what was sampled
        spans, unplaced, figures = self._ruled(prompt, text), set[str](), dict[str, Any]()
        if self._judge is not None:
            verdicts, figures = self._judged(prompt, answer_text(prompt, trajectory))
            placed, unmatched = verdicts.places(text)
            spans = {check: spans[check] + placed[check] for check in CHECKS}
            unplaced = {check for check in verdicts.failed if not spans[check]}
            figures |= {"unmatched": unmatched, "dropped": verdicts.dropped}
        spans = {check: united(places) for check, places in spans.items() if places}
        penalty, length = self.config.penalty, max(1, trajectory.response_length)
        made = [Span(a, b, -penalty[check]) for check, places in spans.items() for a, b in places]
        made += [Span(0, len(text), -penalty[check] / length) for check in sorted(unplaced) if text]
        failed = [check for check in CHECKS if check in spans or check in unplaced]
        details = {"failed": failed, "spans": spans, "unplaced": sorted(unplaced), **figures}
        return Value(score=float(not failed), details=details, spans=(tuple(made),))

    def _ruled(self, prompt: Prompt, text: str) -> dict[str, Places]:
        """What the rules find, by check; letters and digits may be wide or narrow."""
        context, ad = folded(conversation_of(prompt)), with_places(text)
        own = self._pattern(_phrases(prompt, self.config.forbidden)) if self.config.forbidden else None
        claims = [place for place in matches(self._claims, ad.text) if not self._known(ad.text[slice(*place)], context)]
        numbers = list(NUMBER.finditer(ad.text)) if self.config.numbers else []
        known = stated(context) if numbers else frozenset[str]()
        places = {
            "correctness": [hit.span() for hit in numbers if not is_stated(hit[0], known)],
            "relevance": claims,
            "risk": matches(self._banned, ad.text) + matches(own, ad.text),
        }
        return {check: [ad.original(*place) for place in of_check] for check, of_check in places.items()}

    def _judged(self, prompt: Prompt, text: str) -> tuple[Verdicts, dict[str, Any]]:
        """The judge's verdicts, and what they cost. Raises JudgeUnavailable, JudgeUnreadable."""
        assert self._judge is not None
        question = judge_question(conversation_of(prompt), self.config.policy, text)
        try:
            answer = self._judge(partial(_ask, question))
        except JudgeUnreadable:
            if self.config.unreadable is Unreadable.missing:
                raise
            return Verdicts(), {"judge/asked": 1.0, "judge/unreadable": 1.0}
        return answer.value, answer.counts.metrics("judge")

    def _known(self, words: str, context: str) -> bool:
        return bool(matches(self._pattern([words]), context))

    def _pattern(self, phrases: Iterable[str]) -> re.Pattern[str] | None:
        """Finds at every place the longest of the phrases; None without any."""
        known = sorted({folded(words) for words in phrases if words}, key=lambda words: (-len(words), words))
        if not known:
            return None
        written = [phrase(words) if self.config.whole_words else re.escape(words) for words in known]
        return re.compile(f"(?=({'|'.join(written)}))", re.IGNORECASE)


def matches(pattern: re.Pattern[str] | None, text: str) -> Places:
    """Where the phrases stand, those that overlap too."""
    return [hit.span(1) for hit in pattern.finditer(text)] if pattern else []


def united(places: Places) -> Places:
    """The same characters in places that do not touch, in order."""
    merged: Places = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


async def _ask(question: Any, judge: Judge) -> Any:
    return await judge.ask(question, read_verdicts, SCHEMA)


def _lines(path: str) -> list[str]:
    """The phrases of a file. Raises DataError where it cannot be read."""
    if not path:
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        fix = "fix: name a UTF-8 file with one phrase a line"
        raise DataError(f"{path}: no list of phrases ({error}); {fix}") from error


def _phrases(prompt: Prompt, column: str) -> Sequence[str]:
    """Raises DataError where the column is no list of texts."""
    value: Any = prompt.meta.get(column)
    if not isinstance(value, (list, tuple)) or not all(isinstance(words, str) for words in value):
        raise DataError(
            f"{prompt.place or prompt.id}: the column {column!r} must be a list of phrases, not {str(value)[:60]!r}; "
            "fix: give every row one, if empty, or set forbidden="
        )
    return value


def failed_shares(values: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of texts that fail each check. values: details."""
    return {check: sum(check in details["failed"] for details in values) / len(values) for check in CHECKS}
