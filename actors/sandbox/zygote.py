"""The warm process of a sandbox: it has imported everything and shut itself in, and forks a warden for every program.

``parent --control--> zygote --fork--> warden --fork--> program``. Run as
``python -m raylign.actors.sandbox.zygote <control fd>``; it ends when the parent closes the control socket.
"""

from __future__ import annotations

import contextlib
import encodings
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from raylign import kernel
from raylign.actors.frames import receive_frame, send_frame
from raylign.actors.sandbox import landlock, layout, seccomp
from raylign.actors.sandbox.settings import STANDARD
from raylign.actors.sandbox.warden import Warding, guard, user_ids
from raylign.interpreter import standard_path
from raylign.isolation import FIXES, Isolation, probe

DESCRIPTORS = 4  # of a job: socket, standard output, standard error, replies
# Modules that do something when imported (open a browser, print a poem, a window), or exist for other systems.
ODD = frozenset(
    {"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "encodings.mbcs", "encodings.oem"}
)
OOM_SCORE = b"500"  # the kernel, out of memory, looks here before it looks at the run


class Lacking(Exception):
    """A required layer cannot be had here."""


def main() -> None:
    """Shut in, say which layers hold, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(receive_frame(control))
    try:
        warding, layers = _shut_in(settings)
    except (Lacking, ImportError, OSError, ValueError) as error:
        send_frame(control, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens are reaped by the kernel
    gc.collect()
    gc.freeze()  # keeps the pages of what is loaded shared with the children
    send_frame(control, json.dumps({"layers": layers}).encode())
    while True:
        said, descriptors, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
        if not said:
            return
        if os.fork() == 0:
            control.close()
            guard(socket.socket(fileno=descriptors[0]), descriptors[1:], warding)
        for descriptor in descriptors:
            os.close(descriptor)


def _shut_in(settings: dict[str, Any]) -> tuple[Warding, list[str]]:
    isolation = probe()
    if settings["namespaces"] == "never":
        isolation = replace(isolation, namespaces=False)
    readable = (layout.readable if isolation.namespaces else layout.libraries)(settings["packages"])
    _load(settings["packages"], everything=not isolation.namespaces)
    lacking = [layer for layer in settings["require"] if isolation.lacks(layer)]
    if lacking:
        fixes = "; ".join(f"{layer}: {FIXES[layer]}" for layer in lacking)
        raise Lacking(f"the sandbox lacks {', '.join(lacking)}. Fix: {fixes}")
    users = user_ids()
    Path("/proc/self/oom_score_adj").write_bytes(OOM_SCORE)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    if isolation.namespaces:
        _make_namespaces(isolation)
        layout.enter_private_root(readable, settings["root"])
    warding = Warding(
        isolation=isolation,
        readable=readable,
        seccomp=seccomp.program() if isolation.seccomp else b"",
        own_memory=pages * os.sysconf("SC_PAGE_SIZE"),
        limits=settings["limits"],
        users=users,
        proc=proc,
    )
    return warding, _described(isolation)


def _load(packages: Sequence[str], everything: bool) -> None:
    """Import what programs use; everything: the whole standard library, because they will not reach its files.

    Names of the standard library are looked up there alone: a file ``test.py`` of the user's is none of them. Then
    the path is the programs': without the caller's folders.
    """
    names = set(STANDARD)
    if everything:
        names |= sys.stdlib_module_names - ODD
        names |= {f"encodings.{module.name}" for module in pkgutil.iter_modules(encodings.__path__)} - ODD
    sys.path[:], callers = standard_path(), list(sys.path)
    for name in sorted(names):
        with warnings.catch_warnings(), contextlib.suppress(ImportError):  # some are for other systems
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    sys.path[:] = callers
    homes = [Path(importlib.import_module(name).__file__ or "").parents[1] for name in packages]
    sys.path[:] = [*standard_path(), *dict.fromkeys(map(str, homes))]


def _make_namespaces(isolation: Isolation) -> None:
    """Namespaces that all programs share; each gets its own for processes and mounts from its warden."""
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    if not isolation.user_namespace:
        kernel.unshare(flags)
        return
    user, group = os.getuid(), os.getgid()
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _described(isolation: Isolation) -> list[str]:
    layers = ["limits", "no_new_privs", "no capabilities"]
    layers += ["own user id"] if isolation.uid else []
    layers += ["user namespace"] if isolation.user_namespace and isolation.namespaces else []
    layers += ["pid, mount, network, ipc namespaces", "private root"] if isolation.namespaces else []
    layers += [landlock.described()] if isolation.landlock else []
    layers += ["seccomp"] if isolation.seccomp else []
    return layers


if __name__ == "__main__":
    main()
