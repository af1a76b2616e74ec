"""The files sent with a job: the package as a folder (Ray names it by its content), and a small working directory.

A wheel is never sent: Ray keeps it by its file name, and a changed wheel of the same version silently runs old code.
The repository root is never sent either: its `platform/` folder would be on every worker's path.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from raylign.config.schema import Config
from raylign.errors import Problem
from raylign.run_folder import flatten

ROOTS = ("raylign", "raylign.actors", "raylign.recipes", "raylign.conf")  # an editable install has them in four places
SHIPPED = (".py", ".yaml", ".jinja", ".html", ".css", ".js", ".json", ".typed")  # the package data of pyproject.toml
LIMIT_MB = 100  # of data and user modules; larger files belong on storage that the nodes share
CONFIG_DIR = "config-dir"  # its name inside the working directory
FOLDER_KEYS = ("dir", "cache")


def stage_package(target: Path) -> Path:
    """Copy the installed package, wherever its parts lie, into ``<target>/raylign``; returns that folder."""
    for name in ROOTS:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.submodule_search_locations is not None
        source = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(source.rglob("*")):
            if path.suffix in SHIPPED and path.is_file() and "__pycache__" not in path.parts:
                place = target / Path(*name.split(".")) / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
    return target / "raylign"


def content_hash(folder: Path) -> str:
    """Twelve digits that change with any file of a folder: the answer to "which code ran?"."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def relative_files(resolved: Mapping[str, object], here: Path) -> tuple[list[str], list[Problem]]:
    """Settings that name a file by a relative path, and what cannot travel.

    The rule: a relative path of a file that exists below `here` is sent along; an absolute path and a name that is no
    file here (a Hub id) is the cluster's own affair. Folders (models) and paths that lead upwards are problems.
    """
    files, problems = [], []
    for key, value in flatten(resolved).items():
        last = key.rsplit(".", 1)[-1]
        if not isinstance(value, str) or not value or value.startswith(("/", "@", "~")) or key.startswith("run."):
            continue
        if not last.endswith(("path", "file", *FOLDER_KEYS)) or not (here / value).exists():
            continue
        if ".." in Path(value).parts or (here / value).is_dir():
            fix = f"put it on storage that all nodes share, and write its absolute path: {key}=/shared/..."
            why = "is a folder" if (here / value).is_dir() else "leads out of this folder"
            problems.append(Problem(key=key, value=value, why=f"{why}; only files travel with a job", fix=fix))
        else:
            files.append(value)
    return files, problems


def stage_working_dir(target: Path, files: Iterable[str], here: Path, config_dir: str = "") -> list[Problem]:
    """Fill a job's working directory: files and modules under their relative names, the user's YAML in a folder."""
    problems, size = [], 0
    target.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(files):
        source = here / name
        if Path(name).is_absolute() or ".." in Path(name).parts or not source.exists():
            why = "does not exist" if not source.exists() else "is not below this folder"
            problems.append(Problem(key="--with", value=name, why=why, fix="name a file or folder by a relative path"))
            continue
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copyfile(source, place)
    if config_dir:
        shutil.copytree(Path(config_dir).expanduser(), target / CONFIG_DIR, dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > LIMIT_MB * 2**20:
        fix = "put the large ones on storage that all nodes share, and name them by absolute paths"
        why = f"are {size / 2**20:.0f} MB; a job carries {LIMIT_MB}"
        problems.append(Problem(key="files", value=", ".join(files), why=why, fix=fix))
    return problems


def run_dir_problems(config: Config) -> list[Problem]:
    """A job's run folder outlives its node: it must be named, by an absolute path."""
    folder = config.run.dir
    if folder and Path(folder).is_absolute():
        return []
    why = "a job's driver runs wherever the cluster puts it, and what it leaves in its working directory is lost"
    fix = "name a folder on storage that all nodes share: run.dir=/shared/runs/NAME"
    return [Problem(key="run.dir", value=folder or "absent", why=why, fix=fix)]


def run_dir_warning(folder: str) -> str:
    """A sentence about a folder that looks private to one node; empty when it does not."""
    private = ("/tmp", "/var/tmp", "/dev/shm", "/run")
    if not any(Path(folder).is_relative_to(place) for place in private):
        return ""
    return f"{folder} is temporary and each node's own: with more than one node, or after a restart, nothing resumes"
