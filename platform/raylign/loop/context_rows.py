"""Groups -> the learner's rows: one for each context and role of a trajectory.

For trajectories whose calls do not read each other: roles that one policy plays, each from a prompt of its own, or an
agent that begins anew with every call. Nothing that no call read is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raylign.batch import Batch
from raylign.contracts import Place, RowMaker, Rows
from raylign.errors import Problem
from raylign.loop.rows import learned_roles, row_from, scored_places, scores_of_tokens, token_names
from raylign.payloads import references
from raylign.records import Call, Float32s, Group, Int32s, Row, Trajectory

if TYPE_CHECKING:
    from raylign.config.resolve import Run


class PerContext(RowMaker):
    """A row is a context of a trajectory and a role: what its calls read and said, up to the last call of the role that
    is learned from, with the loss on such calls.

    The score of a row is that of its role in the trajectory (`Group.score_of`). Rows of a group that begin alike share
    their beginning. A trajectory without a call to learn from has one row without a loss: its score counts.
    """

    splits = True

    @dataclass
    class Config:
        """Nothing to choose."""

    config: Config

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """Neither an advantage along the trajectory nor a frozen model that reads another prompt takes such rows."""
        problems = list[Problem]()
        for stage in run.stages:
            advantage = run.advantage(stage)
            if advantage is not None and advantage.whole_trajectories:
                place = run.part("advantage", stage.name)
                why = "looks along whole trajectories, and the rows are cut by contexts"
                fix = f"set {key}._target_=raylign.loop.rows.PerTrajectory, or another advantage"
                problems.append(Problem(key=place.key, value=place.cls.__name__, why=why, fix=fix))
        for name, frozen in run.config.frozen.items():
            if frozen.stream in run.streams() and (frozen.own_template or frozen.context):
                why = "renders the prompt of a row anew, and the rows begin with what their calls read"
                fix = f"set {key}._target_=raylign.loop.rows.PerTrajectory"
                problems.append(Problem(key=f"frozen.{name}", value="own_template, context", why=why, fix=fix))
        return problems

    def rows(self, groups: Sequence[Group], unscored: bool = False) -> Rows:
        """See `RowMaker`."""
        rows, scores, places = list[Row](), list[float](), list[Place]()
        names = token_names(groups)
        prompts: dict[tuple[int, bytes], int] = {}
        for sample, (number, index) in enumerate(scored_places(groups, unscored)):
            group = groups[number]
            trajectory = group.trajectories[index]
            for role, start, calls in _parts(trajectory):
                said = trajectory.calls[start : calls[-1] + 1] if calls else ()
                tokens = _slices(trajectory, start, said, scores_of_tokens(names, group, index))
                row = _row(group, number, replace(trajectory, calls=said), role, tokens)
                begins = (number, row.token_ids[: row.prompt_length].tobytes())
                prompt = prompts.setdefault(begins, len(prompts))
                rows.append(replace(row, numbers={"prompt": prompt, "sample": sample, "role": role}))
                score = group.score_of(index, role)
                scores.append(float("nan") if score is None else score)
                places.append(Place(group=number, trajectory=index, calls=calls))
        return Rows(batch=Batch.from_rows(rows), scores=np.array(scores, np.float32), places=places)


def _parts(trajectory: Trajectory) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """(role, first call of the context, calls to learn from) of each row; at least one."""
    made = False
    for start, end in _contexts(trajectory.calls):
        for role in learned_roles(trajectory):
            span = range(start, end)
            if calls := tuple(n for n in span if trajectory.calls[n].role == role and trajectory.calls[n].learn):
                made = True
                yield role, start, calls
    if not made:
        yield trajectory.roles[0], 0, ()


def _contexts(calls: Sequence[Call]) -> Iterator[tuple[int, int]]:
    """First call and end of each context."""
    starts = [n for n, call in enumerate(calls) if call.fresh or n == 0]
    yield from zip(starts, [*starts[1:], len(calls)], strict=True)


def _slices(
    trajectory: Trajectory, start: int, calls: Sequence[Call], tokens: Mapping[str, Float32s | None]
) -> dict[str, Float32s | None]:
    """What is said of the tokens of some calls, of which the first is call `start`."""
    first = sum(len(call.token_ids) for call in trajectory.calls[:start])
    end = first + sum(len(call.token_ids) for call in calls)
    return {name: None if scores is None else scores[first:end] for name, scores in tokens.items()}


def _row(
    group: Group,
    number: int,
    trajectory: Trajectory,
    role: str,
    tokens: Mapping[str, Float32s | None],
) -> Row:
    """Of a trajectory whose calls are those of one context. Its prompt is what the first of them read."""
    prompt: Int32s = group.prompt.token_ids
    calls = trajectory.calls
    if calls and calls[0].fresh:
        prompt = calls[0].context_ids
        calls = (replace(calls[0], context_ids=np.zeros(0, np.int32), fresh=False), *calls[1:])
    elif calls:
        prompt = np.concatenate([prompt, calls[0].context_ids]).astype(np.int32)
        calls = (replace(calls[0], context_ids=np.zeros(0, np.int32)), *calls[1:])
    said = tuple(replace(call, learn=call.learn and call.role == role) for call in calls)
    row = row_from(replace(trajectory, calls=said), replace(group.prompt, token_ids=prompt), number, tokens=tokens)
    return replace(row, payload=references(trajectory.payload))
