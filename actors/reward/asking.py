r"""What a prompt says about where the answer is to stand; what it forbids does not ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from raylign.actors.reward.forms import Asked, Form
from raylign.records import Prompt

VERBS = (
    r"\b(?:form|format|formatted|line|end|ends|ending|finish|conclude|write|put|place|give|provide|respond|reply|state"
    r"|output|return|report|present|express|after|behind|with|by|as|use|using|say|saying|in|inside|within|between|like)\b"
)
KEYS = r"(?:final[ _]?|your[ _]|the[ _])*(?:answer|ans|result|solution)"
CLOSED = r"(?=\s*(?:XML )?tags?\b|.{0,400}?</(?P=name)>)"
QUOTE = "[\"'`*\u201c]*"
# fmt: off
ASKING = tuple((form, re.compile(pattern, flags)) for form, pattern, flags in (
    (Form.boxed, r"\\(?:boxed|fbox)(?![a-zA-Z])", 0),
    # <answer> alone is a place to fill in
    (Form.tag, rf"<(?P<name>(?:final[ _-]?)?(?:answer|ans)|final)>{CLOSED}", re.IGNORECASE | re.DOTALL),
    (Form.tag, r"\b(?:answer|result|solution)\b[^.\n]{0,80}?<(?P<name>(?!think|reason|scratch|thought|plan|analys)"
     rf"[a-z_-]{{2,20}})>{CLOSED}", re.IGNORECASE | re.DOTALL),
    (Form.line, rf"{VERBS}[^\n]{{0,80}}?{QUOTE}\b(?:final\s+)?(?P<name>answer|ans|result|solution)\s*{QUOTE}:",
     re.IGNORECASE),
    (Form.mark, rf"{VERBS}[^\n]{{0,60}}?####", re.IGNORECASE),
    (Form.said, rf"{VERBS}[^\n]{{0,60}}?[\"'`*\u201c]\s*(?:so |therefore,? )?the\s+(?:final\s+)?answer\s+is\b",
     re.IGNORECASE),
    (Form.json, rf"\{{\s*[\"']?(?P<name>{KEYS})[\"']?\s*:", re.IGNORECASE),
    (Form.json, r"\bJSON\b[^.\n]{0,80}?\b(?:key|field|property)\s+(?:named |called )?[\"'`\u201c]?(?P<name>\w+)",
     re.IGNORECASE),
    (Form.brackets, rf"{VERBS}[^\n]{{0,60}}?\[\[[^\[\],\n]{{0,40}}\]\]|\bdouble (?:square )?brackets\b", re.IGNORECASE),
    (Form.bold, r"\banswer\b[^.\n]{0,60}?\b(?:in bold|bolded|in boldface)\b|\bbold(?:face)?\b[^.\n]{0,20}?\banswer\b"
     r"|\b(?:format|form|as|like)\b[^\n]{0,20}?\*\*(?:[xn]|your answer|answer|number)\*\*", re.IGNORECASE),
))
# fmt: on
UNKNOWN = re.compile(
    r"\b(?:answer|result|solution)\b[^.\n]{0,60}?\b(?P<what>(?:in|inside|within|between|enclosed (?:in|by)|wrapped in"
    r"|surrounded by|delimited by|as)\s+(?:(?:a|an|the|single|triple)\s+){0,2}"
    r"(?:square brackets|curly (?:braces|brackets)|angle brackets|brackets|parentheses|(?:double |single )?quotes"
    r"|backticks|(?:python |fenced )?code block|XML|YAML"
    r"|JSON|markdown table|asterisks|italics|dollar signs))\b",
    re.IGNORECASE,
)
BEFORE = re.compile(
    r"(?:\b(?:do not|don't|don\u2019t|never|must not|mustn't|should not|shouldn't|cannot|can't|avoid|refrain from)\b"
    r"(?! (?:forget|omit|skip|fail|leave out|neglect))"
    r"(?:(?!\b(?:and|but|then|just|only|simply|please|instead|outside|except|other than|beyond|before|after)\b)"
    r"[^.\n;,!?:]){0,80}"
    r"|\b(?:without|instead of|rather than|not|no|neither|nor)(?: (?:using|writing|an?|any|the|in|inside|with))*\s*)$",
    re.IGNORECASE,
)
AFTER = re.compile(
    r"[^.\n;,]{0,40}?\b(?:must not|should not|may not|cannot|are not|is not|isn't|aren't|not allowed|forbidden"
    r"|unnecessary)\b",
    re.IGNORECASE,
)


def asked(prompt: Prompt) -> Asked | None:
    """The form that the prompt's messages ask for; of several, the last that they name. None: they ask for none.

    Raises ValueError where they ask for a form that no verifier reads.
    """
    wanted, _, unknown = _read(_asking(prompt))
    if wanted is None and unknown:
        known = ", ".join(form.value for form in Form)
        raise ValueError(
            f"{_place(prompt)}the prompt asks for its answer {unknown!r}, which no verifier reads; known are {known}; "
            "ask for one of these with data.template or data.system"
        )
    return wanted


def asked_or(prompt: Prompt, usual: Form) -> Asked:
    """The form that the prompt asks for, else a verifier's usual one. Raises ValueError where the prompt forbids it."""
    wanted = asked(prompt)
    if wanted is None and usual in _read(_asking(prompt))[1]:
        raise ValueError(
            f"{_place(prompt)}the prompt forbids {usual.value} and asks for no other form; "
            "ask for one with data.template"
        )
    return wanted or Asked(usual)


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[Asked | None, frozenset[Form], str]:
    """What a text asks for, the forms that it forbids, and a form that is not known."""
    places: dict[int, Asked] = {}
    forbidden: set[Form] = set()
    for form, start, end, name in _mentions(text):
        if _negated(text, start, end):
            forbidden.add(form)
        else:
            places[start] = Asked(form, name)
    unknown = next(
        (match["what"] for match in UNKNOWN.finditer(text) if not _negated(text, match.start("what"), match.end())), ""
    )
    return (places[max(places)] if places else None), frozenset(forbidden), unknown


def _mentions(text: str) -> Iterator[tuple[Form, int, int, str]]:
    for form, pattern in ASKING:
        for match in pattern.finditer(text):
            name = match.groupdict().get("name") or ""
            name = name if form is Form.json else name.lower()
            # what counts is where the form itself stands, not the verb in front of it
            start = match.start("name") if name else max(match.start(), match.end() - 8)
            yield form, start, match.end(), name


def _negated(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 160) : start].rstrip("<{\"'`*[#\u201c ") + " "
    return bool(BEFORE.search(before) or AFTER.match(text[end : end + 60]))


def _asking(prompt: Prompt) -> str:
    asking = [message for message in prompt.messages if message.get("role") not in ("assistant", "tool")]
    return "\n".join(_text(message.get("content")) for message in asking)


def _place(prompt: Prompt) -> str:
    return f"{prompt.place}: " if prompt.place else ""


def _text(content: object) -> str:
    if isinstance(content, list | tuple):
        return "\n".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return str(content or "")
