"""An episode survives its environment, is the same whether it had to, and branches without touching its origin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.actors.environments.episode import EnvironmentCounters, Episode, EpisodeDiverged
from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.environments.rows import EnvironmentRows
from raylign.data.prompt_identity import question_id
from raylign.environment import Environment, Observation
from raylign.errors import ConfigError, EnvironmentLost
from raylign.records import Prompt

PROMPT = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32), meta={"env_seed": 10})


def host(target: str = "Dice", **config: Any) -> EnvironmentHost:
    return EnvironmentHost({"_target_": f"environments.{target}", **config}, timeout_s=0.5)


async def play(environments: EnvironmentHost, steps: int = 4, retries: int = 2, seed: int = 7) -> list[Observation]:
    episode = await Episode.open(environments, PROMPT, seed, retries, EnvironmentCounters())
    observations = [await episode.step("x" * index) for index in range(steps)]
    await episode.close()
    assert environments.episodes == 0
    return observations


@pytest.mark.parametrize("target", ["Dice", "Slow"])
def test_the_same_seed_is_the_same_episode(target: str) -> None:
    one, two = (asyncio.run(play(host(target))) for _ in range(2))
    assert one == two
    assert one[-1].done
    assert asyncio.run(play(host(target), seed=8)) != one


@pytest.mark.parametrize("broken", [1, 2])
@pytest.mark.parametrize("snapshots", [True, False])
def test_a_broken_environment_is_taken_up_where_it_was(tmp_path: Path, broken: int, snapshots: bool) -> None:
    switch = tmp_path / "breaks"
    environments = host(breaks=str(switch), snapshots=snapshots)

    async def interrupted() -> list[Observation]:
        counters = EnvironmentCounters()
        episode = await Episode.open(environments, PROMPT, 7, 2, counters)
        observations = [await episode.step("") for _ in range(2)]
        switch.write_text(str(broken))
        observations += [await episode.step("") for _ in range(2)]
        assert counters.revived == 1
        assert counters.steps == 4
        return observations

    async def undisturbed() -> list[Observation]:
        episode = await Episode.open(host(), PROMPT, 7, 0, EnvironmentCounters())
        return [await episode.step("") for _ in range(4)]

    assert asyncio.run(interrupted()) == asyncio.run(undisturbed())


def test_an_environment_that_stays_broken_is_lost(tmp_path: Path) -> None:
    switch = tmp_path / "breaks"
    switch.write_text("99")
    with pytest.raises(EnvironmentLost, match=r"Dice\.step raised RuntimeError: the die rolled off the table"):
        asyncio.run(play(host(breaks=str(switch))))


def test_an_environment_that_takes_too_long_is_lost() -> None:
    async def forever() -> None:
        environments = host("Slow")
        number, _ = await environments.open(PROMPT, 1)
        environments._timeout_s = 0.001
        with pytest.raises(EnvironmentLost, match=r"more than 0\.001 s"):
            await environments.step(number, "")
        with pytest.raises(EnvironmentLost, match="not open here"):
            await environments.step(number, "")

    asyncio.run(forever())


def test_an_unreplayable_environment_is_taken_up_from_its_snapshot_or_not_at_all(tmp_path: Path) -> None:
    async def interrupted(snapshots: bool) -> list[Observation]:
        switch = tmp_path / f"breaks-{snapshots}"
        episode = await Episode.open(
            host("Fickle", breaks=str(switch), snapshots=snapshots), PROMPT, 7, 2, EnvironmentCounters()
        )
        observations = [await episode.step("") for _ in range(2)]
        switch.write_text("1")
        return [*observations, await episode.step("")]

    observations = asyncio.run(interrupted(True))
    assert observations[-1].flags["total"] == 10 + sum(observation.flags["roll"] for observation in observations)
    with pytest.raises(EpisodeDiverged):
        asyncio.run(interrupted(False))


@settings(max_examples=40, deadline=None)
@given(before=st.integers(0, 3), after=st.integers(1, 4), noise=st.sampled_from([None, 3, 4]), snapshots=st.booleans())
def test_a_branch_foresees_and_disturbs_nothing(before: int, after: int, noise: int | None, snapshots: bool) -> None:
    async def branched() -> tuple[list[Observation], list[Observation], list[Observation]]:
        environments = host(length=9, snapshots=snapshots)
        episode = await Episode.open(environments, PROMPT, 7, 0, EnvironmentCounters())
        past = [await episode.step("") for _ in range(before)]
        twin = await episode.branch(noise)
        imagined = [await twin.step("") for _ in range(after)]
        deeper = await twin.branch()
        await deeper.step("")
        return past, imagined, [await episode.step("") for _ in range(after)]

    past, imagined, real = asyncio.run(branched())

    async def plain() -> list[Observation]:
        episode = await Episode.open(host(length=9), PROMPT, 7, 0, EnvironmentCounters())
        return [await episode.step("") for _ in range(before + after)]

    assert [*past, *real] == asyncio.run(plain())
    if noise is None:
        assert imagined == real
    elif after > 2:
        assert [one.flags["roll"] for one in imagined] != [one.flags["roll"] for one in real]


def test_a_branch_with_other_noise_survives_its_environment(tmp_path: Path) -> None:
    """The replay of a branch meets the old noise up to the branch, and its own from there on."""

    async def branched(broken: bool, snapshots: bool) -> list[Observation]:
        switch = tmp_path / f"{broken}{snapshots}"
        environments = host(length=9, breaks=str(switch), snapshots=snapshots)
        episode = await Episode.open(environments, PROMPT, 7, 1, EnvironmentCounters())
        await episode.step("")
        twin = await episode.branch(5)
        observations = [await twin.step("")]
        if broken:
            switch.write_text("1")
        return [*observations, await twin.step(""), await twin.step("")]

    expected = asyncio.run(branched(False, True))
    for snapshots in (True, False):
        assert asyncio.run(branched(True, snapshots)) == expected


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an environment"):
        EnvironmentHost({"_target_": "raylign.objectives.shaping.WeightedSum"})
    with pytest.raises(ConfigError, match="lenght"):
        host(lenght=3)


def test_rows_are_the_first_observations() -> None:
    config = EnvironmentRows.Config(environment={"_target_": "environments.Dice"}, first_seed=5, system="Roll.")

    async def inside_a_loop() -> list[Any]:
        return list(EnvironmentRows(config).rows(3, seed=1))

    rows = asyncio.run(inside_a_loop())
    assert [row.meta["env_seed"] for row in rows] == [5, 6, 7]
    assert rows[1].messages == ({"role": "system", "content": "Roll."}, {"role": "user", "content": "start 6"})


@pytest.mark.parametrize("shows_all", [False, True])
def test_instances_that_begin_alike_are_the_same_where_the_start_shows_all(shows_all: bool) -> None:
    """A game that hides something says the same at every start; each of its instances is a question of its own."""
    config = EnvironmentRows.Config(environment={"_target_": "environments.Dice"}, first_seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "shows_all", shows_all)
        rows = list(EnvironmentRows(config).rows(4, seed=1))
    asked = {question_id(({"role": "user", "content": "Guess."},), row.meta, row.place) for row in rows}
    assert len(asked) == (1 if shows_all else 4)
