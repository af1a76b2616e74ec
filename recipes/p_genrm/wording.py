"""What judges are told, in our own words."""

from __future__ import annotations

from collections.abc import Sequence

FORM = """Write two parts.
## Part 1: persona
Who is this user, as far as the history shows? What do they prefer in general, and what in a situation like this one?
## Part 2: scoring
Derive criteria from part 1. Give each on a line of its own as "- NAME [WEIGHT%]: why"; the weights add up to 100. Score
every response on every criterion with a whole number from 1 to 10, and show the weighted sum of each response.
Close with the weighted sums as JSON between the two tags, and nothing after them:
{json}"""
JUDGE = """Judge the responses below as this very user would, whose past choices are shown. First infer the criteria
that the user goes by, then score by them.
{form}"""
TEACH = """Show how a judge comes to this very user's choice, which is given at the end. Reason from the history and
what the user has stated, never from the given choice itself; the scores must agree with it.
{form}"""
HISTORY_START, HISTORY_END = "=== past choices ===", "=== end of past choices ==="
HISTORY = "User: {query}\nChosen: {chosen}\nRejected: {rejected}"
NO_HISTORY = "(none is known)"
STATED = "=== what the user has stated ===\n{stated}"
INPUT = "=== current input ===\n{query}"
RESPONSE = "=== response {number} ===\n{text}"
CHOICE = "=== the user's choice ===\nresponse {number}"
COVERAGE = (
    "You get a user's true criteria and the reasoning of a judge who was to infer them. To which degree does the "
    "reasoning cover the criteria, each by its weight? Reply with one number between 0 (none) and 1 (all)."
)
CRITERIA = "You get a user's past choices. List the criteria that explain them, one short point a line, at most five."


def history_block(shown: Sequence[str]) -> str:
    """Past choices between their marks."""
    return "\n".join([HISTORY_START, "\n\n".join(shown) or NO_HISTORY, HISTORY_END])
