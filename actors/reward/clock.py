r"""Times of day: ``11:30 \text{ a.m.}``, ``6 pm``, ``23:30``, ``noon``."""

from __future__ import annotations

import re
from dataclasses import dataclass

TIME = re.compile(
    r"(?:at )?(?P<hour>\d{1,2})(?:\s?:\s?(?P<minute>[0-5]\d)(?:\s?:\s?(?P<second>[0-5]\d))?)?"
    r"\s*(?P<half>[ap]m|o ?'?clock|noon|midnight|hours|h)?(?: in the (?P<part>morning|afternoon|evening)| at night)?"
)
NAMED = {"noon": (12, True), "midday": (12, True), "midnight": (0, True)}
LATER = ("pm", "afternoon", "evening")


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds since midnight. half: whether a.m. or p.m. is said; open: whether it could be either."""

    seconds: int
    half: bool
    open: bool = False


def time_of(text: str) -> Time | None:
    """The time that a text without any other content gives; None for a bare number and for what is no time."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).replace("{:}", ":")
    plain = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", plain.casefold())
    plain = " ".join(plain.split())
    if plain in NAMED or plain.removeprefix("12 ") in NAMED:
        return Time(NAMED[plain.removeprefix("12 ")][0] * 3600, True)
    match = TIME.fullmatch(plain)
    if match is None or (match["minute"] is None and match["half"] in (None, "h", "hours") and match["part"] is None):
        return None
    hour, half = int(match["hour"]), match["half"]
    if half in ("noon", "midnight") and (hour != 12 or (match["minute"] or "00") != "00"):
        return None
    said = half in ("am", "pm", "noon", "midnight") or match["part"] is not None
    if hour > 24 or (said and not 1 <= hour <= 12):
        return None
    later = half == "noon" or half in LATER or match["part"] in LATER
    if said:
        hour = hour % 12 + (12 if later else 0)
    seconds = hour * 3600 + int(match["minute"] or 0) * 60 + int(match["second"] or 0)
    return Time(seconds, said, not said and 1 <= hour <= 12)


def same_time(gold: Time, answer: Time | None) -> bool:
    """Whether two times are one. Without its half of the day a time is read on the clock of 24 hours.

    A gold time that leaves the half open counts for both.
    """
    if answer is None:
        return False
    day = 12 * 3600
    return gold.seconds % day == answer.seconds % day if gold.open and answer.half else gold.seconds == answer.seconds
