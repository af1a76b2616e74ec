"""Groups -> the learner's rows: one for each trajectory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raylign.batch import Batch, token_stream
from raylign.contracts import Place, RowMaker, Rows
from raylign.errors import RewardError
from raylign.payloads import references
from raylign.records import Bools, Float32s, Group, Int32s, Prompt, Row, Trajectory


class PerTrajectory(RowMaker):
    """A row is a trajectory: its prompt and all that followed, with the loss on what was sampled to be learned from."""

    @dataclass
    class Config:
        """Nothing to choose."""

    config: Config

    def rows(self, groups: Sequence[Group], unscored: bool = False) -> Rows:
        """See `RowMaker`. Raises RewardError on a trajectory that learns in several roles."""
        by_turn = any(
            call.reward is not None or len(t.calls) > 1 for g in groups for t in g.trajectories for call in t.calls
        )
        fresh = any(call.fresh for group in groups for t in group.trajectories for call in t.calls)
        roles = any(call.role for group in groups for t in group.trajectories for call in t.calls)
        names = token_names(groups)
        rows, scores, places = list[Row](), list[float](), list[Place]()
        for number, index in scored_places(groups, unscored):
            group = groups[number]
            trajectory = group.trajectories[index]
            call_scores = group.call_scores[index] if group.call_scores else None
            row = row_from(
                trajectory,
                group.prompt,
                number,
                call_scores,
                by_turn or bool(group.call_scores),
                fresh=fresh,
                tokens=scores_of_tokens(names, group, index),
            )
            role = _only_role(group, index)
            if roles:
                row = replace(row, numbers={"role": role})
            rows.append(replace(row, payload=references(trajectory.payload)))
            score = group.score_of(index, role)
            scores.append(float("nan") if score is None else score)
            learned = tuple(n for n, call in enumerate(trajectory.calls) if call.learn)
            places.append(Place(group=number, trajectory=index, calls=learned))
        return Rows(batch=Batch.from_rows(rows), scores=np.array(scores, np.float32), places=places)


def scored_places(groups: Sequence[Group], unscored: bool) -> Iterator[tuple[int, int]]:
    """(group, trajectory) of all trajectories that have a score; unscored: of all."""
    for number, group in enumerate(groups):
        for index in range(len(group.trajectories)) if unscored else group.valid:
            yield number, index


def without_truncated(rows: Rows, groups: Sequence[Group]) -> Rows:
    """The same rows, those cut by a length limit with weight 0: they stay in their group's statistics."""
    cut = [groups[place.group].trajectories[place.trajectory].truncated for place in rows.places]
    weight = np.where(np.array(cut, bool)[rows.batch.row_of_token], 0.0, rows.batch["weight"]).astype(np.float32)
    return replace(rows, batch=rows.batch.with_streams(weight=weight))


def learned_roles(trajectory: Trajectory) -> tuple[str, ...]:
    """Roles of the calls that are learned from, in the order of their first; its first role where there are none."""
    return tuple(dict.fromkeys(call.role for call in trajectory.calls if call.learn)) or trajectory.roles[:1]


def _only_role(group: Group, index: int) -> str:
    """Of the calls that are learned from. Raises RewardError on several."""
    roles = learned_roles(group.trajectories[index])
    if len(roles) > 1:
        raise RewardError(
            f"a trajectory of {group.prompt.key} has calls of the roles {', '.join(map(repr, roles))} "
            "and one row for all; fix: set rows._target_=raylign.loop.context_rows.PerContext"
        )
    return roles[0]


def row_from(
    trajectory: Trajectory,
    prompt: Prompt,
    group: int,
    call_scores: Float32s | None = None,
    by_turn: bool = False,
    *,
    fresh: bool = False,
    tokens: Mapping[str, Float32s | None] | None = None,
) -> Row:
    """The learner's row of a trajectory: loss only on ids sampled to learn from, streams laid out token by token.

    by_turn: with the extra streams ``call`` (number of the policy's call, -1 where not sampled), ``turn`` (the dialogue
    turn that it belongs to: flag ``turn``, else the call), ``turn_reward`` (what the environment gave for it, at its
    last token) and ``turn_score`` (`call_scores`, [turns], on all tokens of each call; NaN where there is none). fresh:
    with the stream ``fresh``, 1 at the first token of each context of its own (`Batch.by_context`). tokens: scores of
    the sampled tokens by name, each with a stream (`token_stream`), 0 where not sampled.
    """
    ids: list[Int32s] = [prompt.token_ids]
    mask: list[Bools] = [np.zeros(len(prompt.token_ids), bool)]
    logprobs: list[Float32s] = [np.zeros(len(prompt.token_ids), np.float32)]
    versions: list[Int32s] = [np.full(len(prompt.token_ids), -1, np.int32)]
    for call in trajectory.calls:
        context = len(call.context_ids)
        ids += [call.context_ids, call.token_ids]
        mask += [np.zeros(context, bool), np.full(len(call.token_ids), call.learn)]
        logprobs += [np.zeros(context, np.float32), call.logprobs]
        versions += [np.full(context, -1, np.int32), call.versions]
    token_ids = np.concatenate(ids).astype(np.int32)
    return Row(
        group=group,
        prompt_length=len(prompt.token_ids),
        token_ids=token_ids,
        loss_mask=np.concatenate(mask),
        sampler_logprob=np.concatenate(logprobs).astype(np.float32),
        policy_version=np.concatenate(versions).astype(np.int32),
        advantage=np.zeros(len(token_ids), np.float32),
        weight=np.ones(len(token_ids), np.float32),
        extras=(_turn_streams(trajectory, len(prompt.token_ids), call_scores) if by_turn else {})
        | ({"fresh": _contexts(trajectory, len(prompt.token_ids), len(token_ids))} if fresh else {})
        | _token_streams(trajectory, len(prompt.token_ids), len(token_ids), tokens or {}),
    )


def _contexts(trajectory: Trajectory, start: int, total: int) -> Float32s:
    """See `row_from`; start: where the first turn's context begins."""
    fresh = np.zeros(total, np.float32)
    for call in trajectory.calls:
        if call.fresh:
            fresh[start] = 1.0
        start += len(call.context_ids) + len(call.token_ids)
    return fresh


def token_names(groups: Sequence[Group]) -> list[str]:
    """Of all scores by token that any of the groups has: each has a stream in all rows of a batch."""
    return sorted({name for group in groups for name in group.token_scores})


def scores_of_tokens(names: Sequence[str], group: Group, index: int) -> dict[str, Float32s | None]:
    """Of one trajectory, by name; None where its group, or the trajectory, has none."""
    return {name: scores[index] if (scores := group.token_scores.get(name)) else None for name in names}


def _token_streams(
    trajectory: Trajectory, start: int, total: int, tokens: Mapping[str, Float32s | None]
) -> dict[str, Float32s]:
    """See `row_from`; start: where the first turn's context begins."""
    streams = {token_stream(name): np.zeros(total, np.float32) for name in tokens}
    before = 0
    for call in trajectory.calls if tokens else ():
        start += len(call.context_ids)
        end, after = start + len(call.token_ids), before + len(call.token_ids)
        for name, scores in tokens.items():
            if scores is not None:
                streams[token_stream(name)][start:end] = scores[before:after]
        start, before = end, after
    return streams


def _turn_streams(trajectory: Trajectory, start: int, scores: Float32s | None) -> dict[str, Float32s]:
    """See `row_from`; start: where the first turn's context begins."""
    total = start + sum(len(call.context_ids) + len(call.token_ids) for call in trajectory.calls)
    streams = {name: np.full(total, -1, np.float32) for name in ("call", "turn")}
    streams |= {"turn_reward": np.zeros(total, np.float32), "turn_score": np.zeros(total, np.float32)}
    for number, turn in enumerate(trajectory.calls):
        start += len(turn.context_ids)
        end = start + len(turn.token_ids)
        streams["call"][start:end] = number
        streams["turn"][start:end] = turn.flags.get("turn", number)
        streams["turn_score"][start:end] = np.nan if scores is None else scores[number]
        if turn.reward is not None and end > start:
            streams["turn_reward"][end - 1] = turn.reward
        start = end
    return streams
