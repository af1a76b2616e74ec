"""Fundamental capability: GARM, which splits an answer into assertions and judges each by evidence.

r = clip((n_supported - 2 n_contradicted) / max(1, n), -1, 1), and -1 with a contradicted assertion of high risk
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from raylign.actors.reward.scripts import SENTENCE
from raylign.chat.thoughts import answer_text
from raylign.config.resolve import Run
from raylign.contracts import artifact
from raylign.data.questions import conversation_of
from raylign.errors import Problem
from raylign.recipes.quark_medical.asking import JudgedReward, Question, object_schema
from raylign.recipes.quark_medical.diagnosis import LOST
from raylign.recipes.quark_medical.evidence import Passage, read_evidence
from raylign.recipes.quark_medical.rules import HEADING, MARK, compiled, matches
from raylign.records import Prompt, Trajectory, Value

INSTRUCTION = """You check one assertion of an answer to a medical question by passages of evidence. Say "supported" if
a passage says so, "contradicted" if a passage says otherwise, else "unverifiable". "evidence" is the id of the passage
that decides, null if none does. "high_risk" is true if a person who believes the assertion and it is wrong may come to
harm. Reply with JSON only: {"verdict": ..., "evidence": ..., "high_risk": ...}."""

TITLE = re.compile(r"^[ \t]*#{1,6}[ \t][^\n]*$|^[ \t]*\*\*[^*\n]+\*\*[ \t]*$", re.MULTILINE)  # # Dosage, **Dosage**


class Verdict(StrEnum):
    """On one assertion."""

    supported = "supported"
    contradicted = "contradicted"
    unverifiable = "unverifiable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One assertion. Example: ``Checked(text="At most 4 g a day", verdict=Verdict.supported, evidence="who-12")``"""

    text: str
    verdict: Verdict
    evidence: str = ""  # id of the passage that decides
    high_risk: bool = False


def fact_score(checked: Sequence[Checked]) -> float:
    """r of an answer."""
    verdicts = [one.verdict for one in checked]
    if any(one.high_risk and one.verdict is Verdict.contradicted for one in checked):
        return -1.0
    plain = verdicts.count(Verdict.supported) - 2 * verdicts.count(Verdict.contradicted)
    return max(-1.0, min(1.0, plain / max(1, len(checked))))


class Facts(JudgedReward):
    """r of every answer. An assertion that no passage speaks of is unverifiable, and nobody is asked about it.

    Details: ``assertions`` (text, verdict, evidence, high_risk), ``supported``, ``contradicted``, ``unverifiable``
    (shares), and ``lost``: kinds of verdict that earn nothing.
    """

    @dataclass
    class Config(JudgedReward.Config):
        """Evidence, how it is searched, and how answers are split."""

        evidence: str = artifact("rows")  # rows with `text` and `id`: a file, or what a stage wrote
        passages: int = 3  # that the judge sees of an assertion
        split: str = SENTENCE  # where assertions end
        high_risk: list[str] = field(
            default_factory=list
        )  # patterns, read as those of `Safety`: high risk at all times

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.passages < 1:
                raise ValueError(f"passages={self.passages}: set it to 1 or more")
            for pattern in self.high_risk:
                compiled("high_risk", pattern)
            if compiled("split", self.split).groups:
                raise ValueError(f"split={self.split!r} has groups, which would become assertions: write (?:...)")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be evidence."""
        named, fix = config.evidence, f"set {key}.evidence=FILE.jsonl, rows with `text`"
        problems = super().problems(key, config, run)
        if not named:
            problems.append(Problem(key=f"{key}.evidence", value="", why="there is nothing to check by", fix=fix))
        return problems

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._store = read_evidence(config.evidence)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per sample."""
        return [self._value(self.checked(prompt, answer_text(prompt, trajectory))) for trajectory in trajectories]

    def checked(self, prompt: Prompt, answer: str) -> list[Checked]:
        """The assertions of an answer, in order. Raises JudgeUnavailable, JudgeUnreadable."""
        question, places, questions = conversation_of(prompt), list[int](), list[Question]()
        result = [Checked(text=text, verdict=Verdict.unverifiable) for text in self.assertions(answer)]
        for number, one in enumerate(result):
            if passages := self._store.best(f"{question} {one.text}", self.config.passages):
                places.append(number)
                questions.append(_question(question, one.text, passages))
        for number, reply in zip(places, self.answers(questions), strict=True):
            text = result[number].text
            risky = reply["high_risk"] or any(matches(pattern, text) for pattern in self.config.high_risk)
            result[number] = Checked(
                text=text, verdict=Verdict(reply["verdict"]), evidence=reply["evidence"] or "", high_risk=risky
            )
        return result

    def assertions(self, answer: str) -> list[str]:
        """The sentences that say something, without marks of lists; headings and labels of lists say nothing."""
        text = MARK.sub("", TITLE.sub("", answer))
        parts = [part.strip() for part in compiled("split", self.config.split).split(text)]
        return [part for part in parts if re.search(r"\w", part) and not HEADING.search(part)]

    def _value(self, checked: Sequence[Checked]) -> Value:
        verdicts = [one.verdict for one in checked]
        shares = {verdict.value: verdicts.count(verdict) / max(1, len(checked)) for verdict in Verdict}
        shown = [
            {"text": one.text, "verdict": one.verdict.value, "evidence": one.evidence, "high_risk": one.high_risk}
            for one in checked
        ]
        lost = sorted({verdict.value for verdict in verdicts if verdict is not Verdict.supported})
        return Value(score=fact_score(checked), details={"assertions": shown, **shares, LOST: lost})


def _question(question: str, assertion: str, passages: Sequence[Passage]) -> Question:
    names = [passage.id for passage in passages]
    schema = object_schema(
        verdict={"type": "string", "enum": list(Verdict)},
        evidence={"enum": [*names, None]},
        high_risk={"type": "boolean"},
    )
    shown = [{"id": passage.id, "text": passage.text} for passage in passages]
    material = {"question": question, "assertion": assertion, "evidence": shown}
    return Question(INSTRUCTION, material, schema, partial(_read, names))


def _read(names: Sequence[str], reply: Any) -> Mapping[str, Any]:
    """Raises ValueError on a verdict that is none, or that goes by no passage that was shown."""
    verdict, evidence, risk = (reply[name] for name in ("verdict", "evidence", "high_risk"))
    if verdict not in list(Verdict) or not isinstance(risk, bool):
        raise ValueError(f"no verdict: {verdict!r}, high_risk {risk!r}")
    if verdict == Verdict.unverifiable:
        return {"verdict": verdict, "evidence": None, "high_risk": risk}
    if evidence not in names:
        raise ValueError(f"{verdict} by {evidence!r}, which is none of the passages")
    return {"verdict": verdict, "evidence": evidence, "high_risk": risk}
