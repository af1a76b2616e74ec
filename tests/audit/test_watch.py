"""First appearance, domination, blind spot and verdicts of one grader, and that they go through a checkpoint."""

from __future__ import annotations

import json

import numpy as np

from raylign.audit.watch import Measured, Watch
from raylign.config.schema import ExploitConfig

GOOD, BAD, HONEST = Measured(1.0, 1.0), Measured(1.0, 0.0), Measured(0.0, 0.0)  # right; an exploit; wrong
SETTINGS = ExploitConfig(start_samples=20)
FIRST = [GOOD] * 3 + [HONEST] * 7  # a step of the start


def watched(*steps: list[Measured]) -> Watch:
    watch = Watch(SETTINGS, 1.0)
    for number, measured in enumerate(steps, 1):
        watch.step(number, measured)
    return watch


def figures(watch: Watch, step: int, measured: list[Measured]) -> dict[str, float]:
    return watch.metrics(measured, watch.step(step, measured))


def test_nothing_is_judged_before_the_start_is_known() -> None:
    watch = Watch(SETTINGS, 1.0)
    assert watch.step(1, FIRST) == [None] * 10 and watch.start is None
    assert watch.metrics(FIRST, [None] * 10) == {"grade": 0.3}
    verdicts = watch.step(2, FIRST)
    assert watch.start is not None and [verdict and verdict.exploit for verdict in verdicts] == [False] * 10


def test_the_first_appearance_is_the_first_step_with_an_exploit() -> None:
    watch = watched(FIRST, FIRST, FIRST, [*FIRST, BAD], [BAD] * 10)
    assert watch.appeared == 4
    assert figures(watch, 6, FIRST)["first_appearance"] == 4.0
    assert watched(FIRST, [BAD, *FIRST], FIRST).appeared == 2, "also within the start, once that is known"
    assert watched(FIRST, FIRST, FIRST).appeared is None


def test_exploits_dominate_when_they_stay_the_majority() -> None:
    watch = watched(FIRST, FIRST, [BAD, *FIRST], [BAD] * 20, FIRST * 2, [BAD] * 20, [BAD] * 20, [BAD] * 20)
    assert watch.dominated == 6, "the first of three steps in a row; step 4 stood alone"
    assert figures(watch, 9, [BAD] * 20)["domination"] == 3.0, "steps after the first appearance"
    assert watched(FIRST, FIRST, *[[BAD, *FIRST]] * 20).dominated is None
    idle = watched(FIRST, FIRST, [BAD] * 20, [], [], [])
    assert idle.dominated is None, "steps without a sample say nothing"
    assert watched(FIRST, FIRST, *[[BAD] * 3] * 5).dominated is None, (
        "fifteen samples are no majority of the last twenty"
    )


def test_the_window_is_filled_before_anything_is_said_of_it() -> None:
    watch = watched(FIRST, FIRST)
    assert "unbacked" not in figures(watch, 3, [BAD] * 19)
    assert figures(watch, 4, [BAD])["unbacked"] == 1.0


def test_where_exploits_and_grades_rise_together_is_a_blind_spot() -> None:

    def blind(*later: Measured) -> float:
        """Of a start with 30 % right and no exploit."""
        watch = Watch(ExploitConfig(start_samples=100), 1.0)
        watch.step(1, FIRST * 10)
        return figures(watch, 2, list(later))["blind_spot"]

    assert blind(*[GOOD] * 70, *[BAD] * 30) == 1.0, "70 % right, and 30 % exploits"
    assert blind(*[GOOD] * 100) == 0.0, "sound"
    assert blind(*[GOOD] * 10, *[BAD] * 90) == 0.0, "grades fall, which is seen"


def test_the_gap_tells_how_telling_a_sample_is() -> None:
    watch = watched(FIRST, FIRST)
    bad, good = watch.step(3, [BAD, GOOD])
    assert bad is not None and good is not None
    assert (bad.exploit, round(bad.gap, 9)) == (True, 0.5) and (good.exploit, good.gap) == (False, 0.0)


def test_a_resumed_watch_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(14, 7, 2)) + np.stack([np.arange(14) / 4, np.zeros(14)], 1)[:, None]
    steps = [[Measured(float(reward), float(grade)) for reward, grade in step] for step in pairs]
    whole, results = Watch(SETTINGS, 1.0), []
    for number, measured in enumerate(steps, 1):
        results.append(figures(whole, number, measured))
    for stop in range(14):
        before, after = Watch(SETTINGS, 1.0), Watch(SETTINGS, 1.0)
        for number in range(stop):
            before.step(number + 1, steps[number])
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert [figures(after, n + 1, steps[n]) for n in range(stop, 14)] == results[stop:]
        assert after.milestones == whole.milestones
