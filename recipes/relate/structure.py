"""An ad is a few named fields: read from a text, and rewarded for having all of them in the lengths they must have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raylign.chat.thoughts import answer_text
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import RewardFunction
from raylign.errors import Problem
from raylign.records import Prompt, Trajectory, Value

FORMATTED = "formatted"  # detail of `Structure`: 1 for an ad, 0 for what is none


@dataclass(frozen=True, slots=True)
class AdForm:
    """How the fields stand in a text: each between tags of its name, or all in a row with a separator between.

    Example: ``AdForm(("title", "description"), "").read("<title>a</title><description>b</description>")``
    """

    names: tuple[str, ...]
    separator: str  # empty: tags

    def read(self, text: str) -> dict[str, str] | None:
        """The fields without white space around them; None unless there are just these, in order, and none is empty."""
        if self.separator:
            values = text.split(self.separator)
        else:
            fields = r"\s*".join(rf"<{name}>(.*?)</{name}>" for name in map(re.escape, self.names))
            whole = re.fullmatch(rf"\s*{fields}\s*", text, re.DOTALL)
            values = list(whole.groups()) if whole else []
        values = [value.strip() for value in values]
        whole_ad = len(values) == len(self.names) and all(values)
        if not whole_ad or any(mark in value for mark in self.markup for value in values):
            return None
        return dict(zip(self.names, values, strict=True))

    def bare(self, text: str) -> str:
        """What any text says, an ad or not: what stands between its markup, line by line."""
        for mark in self.markup:
            text = text.replace(mark, "\n")
        return "\n".join(filter(None, map(str.strip, text.splitlines())))

    def write(self, values: Mapping[str, str]) -> str:
        """The text of an ad."""
        if self.separator:
            return self.separator.join(values[name] for name in self.names)
        return "".join(f"<{name}>{values[name]}</{name}>" for name in self.names)

    @property
    def markup(self) -> tuple[str, ...]:
        """What stands in every ad and says nothing."""
        if self.separator:
            return (self.separator,)
        return tuple(mark for name in self.names for mark in (f"<{name}>", f"</{name}>"))


class Structure(RewardFunction):
    """R_str = R_len R_fmt. R_fmt: 1 for a finished text with exactly the fields, else 0. R_len: 1 where every length is
    within its bounds, else max(0, 1 - o / slack), o being the characters that are too many or too few.

    Details: ``formatted`` (R_fmt) and ``overflow`` (o, of an ad).
    """

    @dataclass
    class Config:
        """The fields in order, and how they stand in a text."""

        fields: dict[str, list[int]] = field(default_factory=lambda: {"title": [8, 30], "description": [20, 60]})
        separator: str = ""  # between the fields; empty: each stands in tags of its name
        slack: float = 10.0  # characters outside the bounds at which nothing is left of the reward

        def __post_init__(self) -> None:
            if not self.fields:
                raise ValueError("fields is empty: name those of an ad, e.g. fields={title: [8, 30]}")
            for name, bounds in self.fields.items():
                if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]:
                    raise ValueError(f"fields.{name}={bounds} must be [fewest, most] characters, from 1 up")
            if self.slack <= 0:
                raise ValueError(f"slack is {self.slack:g}, set it above 0")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._form = AdForm(tuple(config.fields), config.separator)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value for each; a text that ran into a length limit has not ended, and is no ad."""
        return [self._value(prompt, trajectory) for trajectory in trajectories]

    def _value(self, prompt: Prompt, trajectory: Trajectory) -> Value:
        ad = None if trajectory.truncated else self._form.read(answer_text(prompt, trajectory))
        if ad is None:
            return Value(score=0.0, details={FORMATTED: 0})
        overflow = sum(_outside(len(ad[name]), *bounds) for name, bounds in self.config.fields.items())
        return Value(score=max(0.0, 1 - overflow / self.config.slack), details={FORMATTED: 1, "overflow": overflow})

    def gold(self, prompt: Prompt) -> str | None:
        """Dots, as few as each field may have."""
        return self._form.write({name: "." * bounds[0] for name, bounds in self.config.fields.items()})

    def wrong(self, prompt: Prompt) -> str | None:
        """Nothing."""
        return ""


def form_of(name: str, run: Run) -> AdForm | None:
    """The form that a reward of the run asks for; None where it is no `Structure`."""
    part = run.parts.get(f"rewards.{name}.fn")
    return (
        AdForm(tuple(part.config.fields), part.config.separator) if part and issubclass(part.cls, Structure) else None
    )


def exempt_problems(key: str, exempt: Sequence[str], gate: str, run: Run) -> list[Problem]:
    """What stands in every ad must be told from what an ad says. key: of the part that has `exempt`."""
    findings, form = Findings(key), form_of(gate, run)
    marks = list(form.markup) if form else []
    why = f"lacks {', '.join(mark for mark in marks if mark not in exempt)}, which stands in every ad of rewards.{gate}"
    findings.expect(set(marks) <= set(exempt), "exempt", list(exempt), why, f"set {key}.exempt={marks}")
    return findings


def _outside(length: int, least: int, most: int) -> int:
    return max(0, least - length, length - most)
