"""What strikes a run: signals to its processes, nodes that go, a disk that fills up, a judge that is cut off.

with hands("disk", folder) as hand:
    run = disturbed(folder, [*overrides, *hand.overrides], schedules, by=hand.strike)
"""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sides.chaos import NODE, PAUSE_S, Schedule, strike
from benchmarks.sides.judged import RuleEndpoint

DISK_MB = 200
HEAD = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """How a role is struck, and what of it the run needs to know."""

    strike: Callable[[int, Schedule], bool] = strike  # given the driver's pid: whether anything was met
    overrides: list[str] = field(default_factory=list)
    ends: int | None = None  # the status that a strike ends the run with: the same command is to be given again
    mend: Callable[[], None] = lambda: None  # before it is


@contextmanager
def hands(role: str, folder: Path) -> Iterator[Hand]:
    """The hand for a role of a run in `folder`; by default a signal to one of its processes."""
    if role == "driver":
        yield Hand(ends=-signal.SIGKILL)
    elif role == "endpoint":
        yield from _endpoint()
    elif role == "node":
        yield from _nodes()
    elif role == "disk":
        yield from _disk(folder)
    else:
        yield Hand()


def _endpoint() -> Iterator[Hand]:
    def cut(_: int, __: Schedule) -> bool:
        endpoint.cut(PAUSE_S)
        return True

    with RuleEndpoint().serving() as endpoint:
        url = f"rewards.correct.fn.judge.model.url={endpoint.url}"
        yield Hand(strike=cut, overrides=[url])


def _nodes() -> Iterator[Hand]:
    """A head, and one more node that dies at each strike, while another one joins."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    others = [cluster.add_node(**NODE)]

    def change(_: int, __: Schedule) -> bool:
        cluster.remove_node(others.pop(), allow_graceful=False)
        others.append(cluster.add_node(**NODE))
        return True

    try:
        yield Hand(strike=change, overrides=[f"cluster.address={cluster.address}"])
    finally:
        cluster.shutdown()


def _disk(folder: Path) -> Iterator[Hand]:
    """A file system in memory, of which a strike takes every byte that is left. Takes root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)
    filler = folder / "filler"

    def fill(_: int, __: Schedule) -> bool:
        with filler.open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError as full:
                return full.errno == errno.ENOSPC

    try:
        yield Hand(strike=fill, ends=1, mend=lambda: filler.unlink(missing_ok=True))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
