"""Why an actor died, in one line without colours; what would fail the same way again is not tried again."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from raylign.actors.learner.ranks import RankGroup
from raylign.actors.ray_errors import born_dead, cause_of
from raylign.errors import EngineDeadError, LearnerError, LoadError

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
    assert cause_of(OutOfMemoryError("a page of text")).startswith("the machine ran out of memory")


@pytest.mark.parametrize(
    ("error", "same_again"),
    [
        (EngineDeadError("ValueError: head size 16 is not supported"), True),
        (EngineDeadError("ValidationError: 1 validation error for ModelConfig"), True),
        (EngineDeadError("FileNotFoundError: no model-2.safetensors"), True),
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
