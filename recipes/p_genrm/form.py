"""What a judge is asked and how its evaluation chain is read: contract, and the paper's form with JSON at its end."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.chat.thoughts import without_thoughts
from raylign.contracts import Part
from raylign.data.questions import asked_instead
from raylign.recipes.p_genrm import wording
from raylign.recipes.p_genrm.items import Choice, Item
from raylign.records import Message, Prompt

START, END = "<JSON_START>", "<JSON_END>"
WEIGHT = re.compile(r"^\s*[-*]\s*(?P<name>[^\[\n]+?)\s*\[(?P<weight>\d+(?:\.\d+)?)\s*%\]", re.MULTILINE)
ANALYSIS = re.compile(r"part 1[^\n]*\n(?P<text>.*?)\n[^\n\w]*part 2\b", re.IGNORECASE | re.DOTALL)
ALIAS = "scores"  # of the paper's prompt, in one line of it


@dataclass(frozen=True, slots=True)
class Chain:
    """An evaluation chain that could be read. Example: ``Chain((7.5, 4.0), "Likes ...", {"brevity": 60})``"""

    scores: tuple[float, ...]  # total of each response
    analysis: str = ""  # part 1: persona and preferences
    weights: Mapping[str, float] = field(default_factory=dict)  # of the criteria that it names, in percent


class Form(Part):
    """A form of questions and chains."""

    what = "a form of evaluation chains"

    @abstractmethod
    def messages(self, item: Item, stated: bool = False, teacher: bool = False) -> tuple[Message, ...]:
        """The question about an item's responses by its history. stated: with the user's stated criteria; teacher: with
        them, with ratings, and with the choice that the user made.
        """

    def read(self, text: str, responses: int, begun: bool = False) -> Chain | None:
        """What a chain says, which the thoughts before it are no part of; None: it is not in form.

        begun: the text goes on with a thought that its prompt has opened.
        """
        return self.parse(without_thoughts(text, begun), responses)

    @abstractmethod
    def parse(self, text: str, responses: int) -> Chain | None:
        """What a chain without thoughts says; None: it is not in form."""

    @abstractmethod
    def write(self, scores: Sequence[float], weights: Mapping[str, float], analysis: str) -> str:
        """A chain that reads as these. weights: in percent."""


def asked_again(prompt: Prompt, messages: Sequence[Message]) -> tuple[Message, ...]:
    """A form's messages in place of a prompt's question, in what ``data.system`` and ``data.template`` put around it.

    A form that brings a system message, or more than a question, keeps its own words.
    """
    if [message["role"] for message in messages] == ["user"]:
        return asked_instead(prompt, str(messages[0]["content"]))
    own = any(message["role"] == "system" for message in messages)
    return (*(message for message in prompt.messages if message["role"] == "system" and not own), *messages)


class JsonChains(Form):
    """Part 1 (analysis), part 2 (criteria with weights, scores, totals), and between two tags one JSON object with the
    keys ``rationale`` (a text) and ``better_response`` (``response_1`` .. ``response_b``: numbers, or texts of such).
    """

    @dataclass
    class Config:
        """What else is taken for the totals."""

        alias: bool = False  # ``scores`` in place of ``better_response``, which the paper's prompt names once

    config: Config

    def messages(self, item: Item, stated: bool = False, teacher: bool = False) -> tuple[Message, ...]:
        """See `Form.messages`."""
        shown = [wording.history_block([_choice(choice, teacher) for choice in item.history])]
        if item.stated and (stated or teacher):
            shown.append(wording.STATED.format(stated=item.stated))
        shown.append(wording.INPUT.format(query=item.query))
        shown += [wording.RESPONSE.format(number=n, text=text) for n, text in enumerate(item.responses, 1)]
        if teacher:
            shown.append(wording.CHOICE.format(number=item.best + 1))
        example = json.dumps(_object("...", [0.0] * len(item.responses)))
        form = wording.FORM.format(json=f"{START}{example}{END}")
        task = (wording.TEACH if teacher else wording.JUDGE).format(form=form)
        return ({"role": "user", "content": "\n\n".join([task, *shown])},)

    def parse(self, text: str, responses: int) -> Chain | None:
        """See `Form.parse`."""
        if text.count(START) != 1 or text.count(END) != 1 or text.index(END) < text.index(START):
            return None
        before, _, rest = text.partition(START)
        try:
            said = json.loads(rest.partition(END)[0])
        except (ValueError, RecursionError):
            return None
        totals = self._totals(said)
        names = [f"response_{number}" for number in range(1, responses + 1)]
        if not isinstance(totals, Mapping) or set(totals) != set(names):
            return None
        scores = [_number(totals[name]) for name in names]
        if any(score is None for score in scores):
            return None
        analysis = ANALYSIS.search(before)
        weights = {match["name"].lower(): float(match["weight"]) for match in WEIGHT.finditer(before)}
        return Chain(
            tuple(score for score in scores if score is not None),
            analysis["text"].strip() if analysis else "",
            weights,
        )

    def write(self, scores: Sequence[float], weights: Mapping[str, float], analysis: str) -> str:
        """See `Form.write`."""
        criteria = "\n".join(f"- {name} [{weight:g}%]" for name, weight in weights.items())
        end = f"{START}{json.dumps(_object('by the totals', scores))}{END}"
        return f"## Part 1: persona\n{analysis}\n## Part 2: scoring\n{criteria}\n{end}"

    def _totals(self, said: Any) -> Any:
        if not isinstance(said, Mapping) or not isinstance(said.get("rationale"), str):
            return None
        keys = set(said) - {"rationale"}
        if keys == {"better_response"} or (self.config.alias and keys == {ALIAS}):
            return said[keys.pop()]
        return None


def _object(rationale: str, scores: Sequence[float]) -> dict[str, Any]:
    totals = {f"response_{number}": score for number, score in enumerate(scores, 1)}
    return {"rationale": rationale, "better_response": totals}


def _number(value: Any) -> float | None:
    """A finite number, or the text of one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _choice(choice: Choice, teacher: bool) -> str:
    said = wording.HISTORY.format(query=choice.query, chosen=choice.chosen, rejected=choice.rejected)
    notes = []
    if teacher and choice.ratings:
        notes.append(f"Ratings: chosen {choice.ratings[0]:g}, rejected {choice.ratings[1]:g}")
    if teacher and choice.attributes:
        notes.append("Weights: " + ", ".join(f"{name} {weight:g}" for name, weight in choice.attributes.items()))
    return "\n".join([said, *notes])
