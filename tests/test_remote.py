"""Actors are made, awaited and told of in one place: their options, their deadlines, and why they died, in one line."""

from __future__ import annotations

import ast
import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from raylign.actors.learner.ranks import RankGroup
from raylign.actors.remote import NoAnswer, born_dead, cause_of, end, reply, spawn
from raylign.errors import EngineDeadError, JudgeError, LearnerError, LoadError

ACTORS = Path(__file__).parents[1] / "actors"

BIRTH = (
    "The actor died because of an error raised in its creation task, \x1b[36mray::RolloutWorker.__init__()\x1b[39m "
    '(pid=1, ip=1.2.3.4)\n  File "worker.py", line 57, in __init__\n    build(spec)\n'
    "TypeError: ComposeRollout.__init__() got an unexpected keyword argument 'environments'"
)


def test_the_cause_is_the_last_line_without_colours() -> None:
    assert cause_of(RuntimeError(BIRTH)).startswith("TypeError: ComposeRollout.__init__() got an unexpected")
    assert "\x1b" not in cause_of(RuntimeError("\x1b[36mray::f()\x1b[39m\nValueError: \x1b[31mx\x1b[0m"))
    assert cause_of(RuntimeError("The actor died unexpectedly.\n\tclass_name: X")) == "The actor died unexpectedly."
    assert cause_of(RuntimeError("")) == "RuntimeError"
    assert cause_of(KeyError("oops")) == "KeyError: 'oops'"
    assert cause_of(RayTaskError("f", "Traceback ...", KeyError("oops"))) == "KeyError: 'oops'"
    assert cause_of(RayTaskError("f", "Traceback ...", EngineDeadError("no\n  room"))) == "no room"
    assert cause_of(JudgeError("1 problem:\n  path: is none")) == "1 problem: path: is none"
    assert cause_of(OutOfMemoryError("a page of text")).startswith("the machine ran out of memory")


@pytest.mark.parametrize(
    ("error", "same_again"),
    [
        (EngineDeadError("ValueError: head size 16 is not supported"), True),
        (EngineDeadError("ValidationError: 1 validation error for ModelConfig"), True),
        (EngineDeadError("FileNotFoundError: no model-2.safetensors"), True),
        (EngineDeadError("OSError: It looks like the config file at 'x/config.json' is not a valid JSON file."), True),
        (EngineDeadError("PermissionError: [Errno 13] Permission denied: 'x/model.safetensors'"), True),
        (EngineDeadError("SafetensorError: Error while deserializing header: header too large"), True),
        (EngineDeadError("JSONDecodeError: Expecting value: line 1 column 1 (char 0)"), True),
        (EngineDeadError("AssertionError: Attempted to load weight (torch.Size([9])) into parameter"), True),
        (EngineDeadError("TemplateSyntaxError: unexpected end of template"), True),
        (EngineDeadError("OSError: [Errno 5] Input/output error: 'x'"), False),
        (EngineDeadError("RuntimeError: Engine core initialization failed"), False),
        (EngineDeadError("ConnectionResetError: [Errno 104]"), False),
        (EngineDeadError("ValueError: Free memory on device is less than desired"), False),
        (EngineDeadError("start took more than 300 s"), False),
        (ActorDiedError(), False),
    ],
)
def test_what_fails_by_content_is_told_from_what_may_pass(error: Exception, same_again: bool) -> None:
    assert born_dead(error) is same_again


def failed(method: str, error: Exception) -> LearnerError:
    async def make() -> LearnerError:
        task: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task.set_exception(error)
        return RankGroup(object, "learner", 1, "/tmp", lambda rank: {})._error(method, [task], 1.0)

    return asyncio.run(make())


def test_only_a_load_that_fails_by_content_is_final() -> None:
    assert isinstance(failed("load", LearnerError("ValueError in load: size mismatch")), LoadError)
    for method, error in (
        ("update", LearnerError("ValueError in update: x")),
        ("load", ActorDiedError()),
        ("load", LearnerError("RuntimeError in load: gloo connection reset")),
        ("load", OutOfMemoryError("x")),
    ):
        assert not isinstance(failed(method, error), LoadError), (method, error)


async def late() -> None:
    await asyncio.sleep(60)


async def test_a_deadline_is_told_from_a_timeout_of_the_actors_own() -> None:
    with pytest.raises(NoAnswer, match=r"no answer within 0\.01 s"):
        await reply(late(), 0.01)

    async def own() -> None:
        raise TimeoutError("the endpoint's")

    with pytest.raises(TimeoutError, match="the endpoint's") as caught:
        await reply(own(), 10.0)
    assert not isinstance(caught.value, NoAnswer)


def worker() -> type:
    """Local, so that Ray pickles it by value."""

    class Worker:
        def __init__(self, rank: int = 0, ranks: int = 1, log: str = "") -> None:
            if log:
                raise TypeError("no such argument")

        def environment(self) -> dict[str, str]:
            return dict(os.environ)

        def close(self) -> None:
            raise EngineDeadError("it was dead before")

    return Worker


@pytest.mark.ray
async def test_an_actor_has_its_environment_and_what_its_place_adds(ray_session: None) -> None:
    place = {"num_cpus": 0.1, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "7", "OWN": "x"}}}
    actor = spawn(worker(), options=place, threads=3, gpu=False)
    seen = await reply(actor.environment.remote(), 60.0)
    assert (seen["OMP_NUM_THREADS"], seen["MKL_NUM_THREADS"], seen["OWN"]) == ("7", "3", "x")
    assert seen["CUDA_VISIBLE_DEVICES"] == "" and place["runtime_env"] == {
        "env_vars": {"OMP_NUM_THREADS": "7", "OWN": "x"}
    }
    await end(actor)  # whose close fails
    with pytest.raises(ActorDiedError):
        for _ in range(200):  # Ray ends it in its own time
            await reply(actor.environment.remote(), 60.0)
            await asyncio.sleep(0.1)


@pytest.mark.ray
async def test_a_rank_whose_constructor_raises_is_final(ray_session: None, tmp_path: Path) -> None:
    group = RankGroup(worker(), "learner", 1, tmp_path, lambda rank: {"num_cpus": 0.1})
    group.spawn(1, gpu=False)
    with pytest.raises(LoadError, match="its constructor raised TypeError: no such argument"):
        await group.call("environment", deadline=60.0)


def test_nobody_else_makes_actors_or_awaits_them_with_a_deadline() -> None:
    def named(node: Any, *names: str) -> bool:
        return isinstance(node, ast.Attribute) and ast.unparse(node) in names

    elsewhere = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for path in sorted(ACTORS.rglob("*.py"))
        if path.name != "remote.py" or path.parent != ACTORS
        for node in ast.walk(ast.parse(path.read_text()))
        if named(node, "ray.remote", "ray.exceptions.OutOfMemoryError")
        or (isinstance(node, ast.keyword) and node.arg == "runtime_env")
    ]
    assert not elsewhere, elsewhere
