"""What this machine must give a run before anything starts: a folder to write into, files to open, memory."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raylign.config.schema import Config, TinyModel
from raylign.errors import Problem
from raylign.models.facts import model_facts
from raylign.models.tiny import model_cache

KERNEL = ("proc", "sys", "dev")  # no place for files
FILES = 512  # descriptors below which Ray's own processes do not come up
SOCKET = len("/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store")  # what Ray adds to the folder
SOCKET_LIMIT = 107  # bytes of a Unix socket's name
GB = 2**30
PROCESS_GB = 0.1  # of a worker that has only imported what it needs
LEARNED_BYTES = 16  # of a parameter on CPU: weight, gradient and two moments in fp32


def machine_problems(config: Config) -> Iterator[Problem]:
    """Everything about this machine that would end the run. Only a run with a cluster of its own is asked for more than
    its folder.
    """
    if config.run.dir and (why := folder_fault(Path(config.run.dir))):
        yield Problem(key="run.dir", value=_shown(config.run.dir), why=why, fix="name a folder that can be written")
    cache = model_cache(config.run.cache_dir)
    if not config.model.path and (why := folder_fault(cache)):
        fix = "set run.cache_dir to a folder that can be written"
        yield Problem(key="run.cache_dir", value=_shown(str(cache)), why=why, fix=fix)
    if config.cluster.address != "local":
        return
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < FILES:
        why = f"is too few for Ray, which needs {FILES}"
        yield Problem(key="open files (ulimit -Hn)", value=str(files), why=why, fix="run `ulimit -n 4096` before it")
    yield from _temporary_problems(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    yield from _memory_problems(config)


def folder_fault(path: Path) -> str:
    """Why a folder cannot be made, or cannot be written into; empty when it can. Touches nothing."""
    try:
        path = path.expanduser()
        if any(len(os.fsencode(part)) > 255 for part in path.parts) or len(os.fsencode(path.absolute())) > 3800:
            return "is too long for a name of a folder"
        path = path.resolve()
        if path.parts[1:2] and path.parts[1] in KERNEL and path.parts[1:3] != ("dev", "shm"):
            return "is the kernel's, no place for files"
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not there.is_dir():
            return "is a file" if there == path else f"cannot be made: {there} is a file"
        return "" if os.access(there, os.W_OK | os.X_OK) else f"cannot be written: no permission in {there}"
    except RuntimeError:
        return "is a loop of symbolic links"
    except (OSError, ValueError) as cause:
        return f"cannot be used ({getattr(cause, 'strerror', None) or cause})"


def _temporary_problems(folder: str) -> Iterator[Problem]:
    why = ""
    if not folder.isascii():
        why = "holds letters that Ray cannot use in the names of its sockets"
    elif len(folder) + SOCKET > SOCKET_LIMIT:
        why = f"is too long: Ray's sockets below it would have names of more than {SOCKET_LIMIT} bytes"
    if why:
        yield Problem(key="TMPDIR", value=_shown(folder), why=why, fix="set TMPDIR=/tmp")


def _memory_problems(config: Config) -> Iterator[Problem]:
    memory, rollout = machine_memory() / GB, config.rollout
    engines = [("rollout", rollout.workers, rollout.kv_cache_gb, rollout.gpus)]
    engines += [
        (f"judges.{name}", judge.workers, judge.kv_cache_gb, judge.gpus)
        for name, judge in config.judges.items()
        if not judge.endpoint
    ]
    for key, workers, size, gpus in engines:
        if not gpus and workers * size > memory:
            why = f"of {workers} engine(s) is more than this machine's {memory:.1f} GB of memory"
            fix = f"set {key}.kv_cache_gb={max(0.1, memory / 4 / max(workers, 1)):.1g}"
            yield Problem(key=f"{key}.kv_cache_gb", value=f"{size:g}", why=why, fix=fix)
    yield from _process_problems(config, memory)
    store = config.cluster.object_store_mb / 1024
    if store > memory:
        why, fix = f"is more than this machine's {memory:.1f} GB of memory", "set cluster.object_store_mb=512"
        yield Problem(key="cluster.object_store_mb", value=str(config.cluster.object_store_mb), why=why, fix=fix)


def _process_problems(config: Config, memory: float) -> Iterator[Problem]:
    """More processes than there is memory for their interpreters, or a model that is too large to learn here."""
    counts = {"rollout.workers": config.rollout.workers, "learner.ranks": config.learner.ranks}
    counts |= {"critic.ranks": config.critic.ranks, "environment.workers": config.environment.workers}
    counts |= {f"rewards.{name}.workers": reward.workers for name, reward in config.rewards.items()}
    counts |= {f"audit.graders.{name}.workers": grader.workers for name, grader in config.audit.graders.items()}
    counts |= {f"judges.{name}.workers": judge.workers for name, judge in config.judges.items()}
    for key, count in counts.items():
        if count * PROCESS_GB > memory:
            why = f"processes of {PROCESS_GB} GB and more do not fit into this machine's {memory:.1f} GB of memory"
            yield Problem(key=key, value=str(count), why=why, fix=f"set {key}={max(1, int(memory / 4 / PROCESS_GB))}")
    if config.model.path or config.learner.gpus:
        return
    size = model_facts(config.model).parameters * LEARNED_BYTES / GB
    if size > memory:
        why = f"makes a model that takes {size:,.0f} GB to learn, and this machine has {memory:.1f} GB"
        fix = "set it to the defaults: model.tiny.hidden_size=128 model.tiny.layers=4"
        largest = max(("layers", "hidden_size", "intermediate_size"), key=lambda name: _relative(config, name))
        value = str(getattr(config.model.tiny, largest))
        yield Problem(key=f"model.tiny.{largest}", value=value, why=why, fix=fix)


def _relative(config: Config, name: str) -> float:
    """A field of the tiny shape, divided by its default."""
    return float(getattr(config.model.tiny, name) / getattr(TinyModel(), name))


def machine_memory() -> int:
    """Bytes of memory of this machine, or of this container where it has less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(name).read_text().strip() if Path(name).exists() else ""
        if text.isdigit():
            return min(whole, int(text))
    return whole


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
