"""The folder of one run: which one a command gets, who holds it, and whether it fits the configuration."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import IO, Any

import orjson

from raylign.config.schema import Config, Resume
from raylign.contracts import StageResult
from raylign.errors import RunError, no_space

IDENTITY = "identity.json"
FINISHED = "finished.json"
DONE = "done.json"  # of a stage
HERE = "./"  # begins an artifact within the run folder, as DONE names it
LOCK = ".lock"
FULL_MB = 16  # less than this is a full disk
UNESSENTIAL = (
    "run",
    "cluster",
    "telemetry",
    "sweep",
    "alarms",
    "default_gpus",
)  # may differ between a run and its resumption
SIZES = ("ranks", "workers", "cpus", "gpus", "max_restarts")  # of a role: may grow or shrink with the cluster
ROLES, NAMED_ROLES = ("rollout", "learner", "critic", "environment"), ("frozen", "rewards", "judges")


class RunFolder:
    """An open run folder, locked against a second process until `close`.

    Example: ``folder = RunFolder.open(cfg, resolved)``; ``folder.stage("rl")`` is ``<run>/stages/rl``.
    """

    def __init__(self, path: Path, lock: IO[str], resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock

    @classmethod
    def open(cls, cfg: Config, resolved: Mapping[str, Any]) -> RunFolder:
        """Find or make the folder that this configuration should run in, and lock it.

        Raises RunError when it is in use, finished (explicit run.dir), or belongs to another configuration or, not
        being empty, to another user.
        """
        path, identity = _choose(cfg, resolved), identity_of(resolved)
        try:
            path.mkdir(parents=True, exist_ok=True)
            _refuse_other_owner(path, cfg.run.foreign_folder)
            lock = _lock(path)
        except OSError as cause:
            raise RunError(f"run.dir = {path} cannot be used: {cause.strerror}; fix: name another folder") from cause
        known = path / IDENTITY
        if known.exists() and orjson.loads(known.read_bytes())["hash"] != identity["hash"] and not _worked(path):
            _clear(path)
        resumed = known.exists()
        if cfg.run.resume is Resume.must and not resumed:
            raise RunError(f"{path} holds nothing to continue; fix: run.resume=auto, or name the folder by run.dir")
        if cfg.run.resume is Resume.never and resumed:
            raise RunError(f"{path} already holds a run; fix: run.resume=auto to continue it, or another run.dir")
        if (path / FINISHED).exists():
            raise RunError(f"{path} holds a finished run; fix: another run.dir (see it: {path}/report.html)")
        if resumed:
            _refuse_other(orjson.loads(known.read_bytes()), identity, path)
        else:
            write_atomically(known, orjson.dumps(identity, option=orjson.OPT_INDENT_2))
        return cls(path, lock, resumed)

    def stage(self, name: str) -> Path:
        """Folder of one stage, made when absent."""
        folder = self.path / "stages" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stage_result(self, name: str) -> StageResult | None:
        """The result of a stage; None while it is unfinished."""
        path = self.stage(name) / DONE
        if not path.exists():
            return None
        content = orjson.loads(path.read_bytes())
        result = StageResult(**{item.name: content[item.name] for item in fields(StageResult) if item.name in content})
        here = {
            name: str(self.path / left) if left.startswith(HERE) else left for name, left in result.artifacts.items()
        }
        return replace(result, artifacts=here)

    def finish_stage(self, name: str, result: StageResult, started_from: str) -> None:
        """Record that a stage is over, the model that it started from and what it left behind.

        What is within the folder is named as seen from there: of a copied folder the copy is meant.
        """
        left = {name: self._from_here(path) for name, path in result.artifacts.items()}
        content = {"started_from": started_from, **asdict(result), "artifacts": left}
        write_atomically(self.stage(name) / DONE, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def _from_here(self, path: str) -> str:
        absolute = Path(path).absolute()
        return f"{HERE}{absolute.relative_to(self.path)}" if absolute.is_relative_to(self.path) else path

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Record that the run is over."""
        write_atomically(self.path / FINISHED, orjson.dumps(dict(summary), option=orjson.OPT_INDENT_2))

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()


def check_space(path: Path) -> None:
    """Raises RunError when the disk is full: whatever failed because of that would fail again."""
    free = shutil.disk_usage(path).free
    if free < FULL_MB * 2**20:
        raise RunError(no_space(path, free))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part; no link is followed."""
    staging = path.with_name(f".{path.name}.writing")
    staging.unlink(missing_ok=True)  # of a process that was killed
    with staging.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(staging, path)


def identity_of(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides its results, and its hash."""
    essential = {key: value for key, value in resolved.items() if key not in UNESSENTIAL}
    for name in (*ROLES, *NAMED_ROLES):
        fields = essential.get(name)
        if isinstance(fields, Mapping):
            named = name in NAMED_ROLES
            essential[name] = {k: _without_sizes(v) for k, v in fields.items()} if named else _without_sizes(fields)
    digest = hashlib.sha256(orjson.dumps(essential, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return {"hash": digest, "config": essential}


def _without_sizes(fields: Any) -> Any:
    return {key: value for key, value in fields.items() if key not in SIZES} if isinstance(fields, Mapping) else fields


def _choose(cfg: Config, resolved: Mapping[str, Any]) -> Path:
    """Explicit folder, or the first numbered default folder that is new or holds this very run, unfinished."""
    if cfg.run.dir:
        return Path(cfg.run.dir).absolute()
    base = Path("outputs").absolute() / f"{cfg.recipe}-{cfg.scale}-seed{cfg.seed}"
    identity = identity_of(resolved)["hash"]
    candidates = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 100_000))]
    for path in candidates:
        if not (path / IDENTITY).exists():
            return path
        same = orjson.loads((path / IDENTITY).read_bytes())["hash"] == identity
        if same and not (path / FINISHED).exists() and cfg.run.resume is not Resume.never:
            return path
    raise RunError(f"too many runs beside {base}; fix: name one by run.dir")


def _lock(path: Path) -> IO[str]:
    stream = _own_file(path / LOCK)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        owner = stream.read().strip() or "unknown"
        stream.close()
        raise RunError(
            f"{path} is in use by process {owner}; fix: wait for it, stop it, or choose another run.dir"
        ) from None
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream


def _worked(path: Path) -> bool:
    """Whether a run has got anywhere in a folder: a step, a checkpoint, a stage, or an end."""
    steps = path / "metrics.jsonl"
    kept = (path / "stages").glob("*/checkpoints/*")
    done = (path / "stages").glob(f"*/{DONE}")
    return (path / FINISHED).exists() or (steps.exists() and steps.stat().st_size > 0) or any((*kept, *done))


def _clear(path: Path) -> None:
    """Forget a run that ended before its first step: other settings may have the folder. Its logs stay."""
    for name in (IDENTITY, "events.jsonl", "resolved.yaml"):
        (path / name).unlink(missing_ok=True)


def _own_file(path: Path) -> IO[str]:
    """Open for reading and writing, made when absent and left as it is. Raises RunError unless it is a file of its own:
    a link of either kind would have another file overwritten.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as cause:
        linked = path.is_symlink()
        why = "is a symbolic link" if linked else f"cannot be opened: {cause.strerror}"
        raise RunError(f"{path} {why}; fix: {'remove it' if linked else 'another run.dir'}") from cause
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(handle)
        raise RunError(f"{path} is no plain file with one name; fix: remove it")
    return os.fdopen(handle, "r+")


def _refuse_other_owner(path: Path, allowed: bool) -> None:
    """A run folder is trusted: what is resumed from it is unpickled. An empty folder, as a mounted volume is, may be
    anybody's.
    """
    owner = path.stat().st_uid
    if owner != os.geteuid() and not allowed and any(path.iterdir()):
        raise RunError(
            f"{path} belongs to user {owner}, this process to user {os.geteuid()}: continuing a run executes what its "
            "folder holds; fix: another run.dir, or run.foreign_folder=true if you trust that user"
        )


def _refuse_other(known: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    if known["hash"] == now["hash"]:
        return
    old, new = flatten(known["config"]), flatten(now["config"])
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    shown = "\n".join(f"  {key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in changed[:12])
    raise RunError(
        f"{path} holds a run with other settings:\n{shown}\n"
        "fix: use the same settings to continue it, or another run.dir"
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
