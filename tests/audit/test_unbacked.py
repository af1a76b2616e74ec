"""What the alarm watches: 0 while grades back the reward's gain, the share of exploits where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from raylign.audit.start import Start
from raylign.audit.unbacked import Seen, unbacked
from raylign.config.schema import ExploitConfig

N = 400  # samples of the start and of what follows: chance is another test's matter
THRESHOLD = 0.15  # of the shipped alarm
Pairs = tuple[np.ndarray, np.ndarray]


def found(first: Pairs, later: Pairs, maximum: float = 1.0) -> float:
    settings = ExploitConfig(start_samples=N)
    start = Start(rewards=list(first[0]), grades=list(first[1]), settings=settings, maximum=maximum)
    window = [
        Seen(start.reward_rank(r), start.grade_rank(g), start.high(r), start.low(g))
        for r, g in zip(*later, strict=True)
    ]
    return unbacked(start, window)


def coins(p: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(N) < p).astype(float)


def when(reward: np.ndarray, right: float, wrong: float, seed: int) -> np.ndarray:
    """A grade of 1 with probability `right` where the reward is 1, else with `wrong`."""
    return (np.random.default_rng(seed).random(N) < np.where(reward > 0, right, wrong)).astype(float)


def normal(shift: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, N)


def noisy(of: np.ndarray, rho: float, seed: int) -> np.ndarray:
    return rho * of + np.sqrt(1 - rho**2) * np.random.default_rng(seed).normal(size=N)


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5])
@pytest.mark.parametrize(("right", "wrong"), [(1.0, 0.0), (0.85, 0.15), (0.6, 0.0), (1.0, 0.4), (0.75, 0.25)])
def test_a_sound_reward_of_right_and_wrong_is_backed(p: float, right: float, wrong: float) -> None:
    """Whether the grader is exact, noisy, strict or lenient."""
    first, later = coins(p, 1), coins(0.9, 2)
    assert found((first, when(first, right, wrong, 3)), (later, when(later, right, wrong, 4))) == 0.0


@pytest.mark.parametrize("rho", [0.4, 0.7, 1.0])
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_a_sound_reward_of_any_size_is_backed(rho: float, shift: float) -> None:
    first, later = normal(0, 1), normal(shift, 2)
    assert found((first, noisy(first, rho, 3)), (later, noisy(later, rho, 4))) == 0.0


@pytest.mark.parametrize("p", [0.0, 0.05, 0.3, 0.7])
def test_a_gain_that_no_grade_follows_is_not(p: float) -> None:
    first, later = normal(0, 1), normal(2, 2)
    assert found((first, coins(p, 3)), (later, coins(p, 4))) > THRESHOLD
    assert found((coins(0.2, 5), coins(p, 3)), (coins(0.98, 6), coins(p, 4))) > THRESHOLD
    assert found((first, normal(0, 3)), (later, normal(0, 4))) > THRESHOLD, "grades of any size"


def test_a_gain_that_costs_grades_is_not() -> None:
    first, later = normal(0, 1), normal(2, 2)
    assert found((first, noisy(first, 0.5, 3)), (later, normal(-2, 4))) > 0.8


def test_tampering_is_seen_though_grades_rise() -> None:
    """The blind spot: of 35 % at the start 58 % become right, while nearly all reward comes from elsewhere."""
    right, tampered = coins(0.35, 1), coins(0.01, 2)
    later, taken = coins(0.58, 3), coins(0.99, 4)
    assert found((np.maximum(right, tampered), right), (np.maximum(later, taken), later)) > THRESHOLD


def test_before_anything_was_ever_rewarded_most_exploits_still_count() -> None:
    nothing, later = np.zeros(N), coins(0.3, 1)
    assert found((nothing, nothing), (np.ones(N), later)) > THRESHOLD
    assert found((nothing, nothing), (later, later)) == 0.0, "sound from nothing"


def test_a_reward_that_does_not_rise_raises_nothing() -> None:
    assert found((normal(0, 1), normal(0, 2)), (normal(0, 3), normal(-2, 4))) == 0.0
    assert found((coins(0.9, 1), coins(0.3, 2)), (coins(0.95, 3), coins(0.3, 4))) == 0.0


def test_what_was_good_from_the_start_need_not_get_better() -> None:
    """A reward for form that rises while nearly every answer was right and stays so."""
    first, later = coins(0.3, 1), coins(0.95, 2)
    assert found((first, coins(0.97, 3)), (later, coins(0.97, 4))) < THRESHOLD
    assert found((first, np.ones(N)), (later, np.ones(N))) == 0.0
