"""A Python process in which the standard library's names mean the standard library, whatever the user's folders hold.

A program run from a folder with a ``code.py`` or a ``test.py`` has that folder first on its path, and ``PYTHONPATH``
comes before the standard library always. Helper processes that import whatever there is must not execute these.
"""

from __future__ import annotations

import json
import sys
import sysconfig

BOOT = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); del sys.argv[:2]; "
    "runpy.run_module(sys.argv[0], run_name='__main__')"
)


def standard_path() -> list[str]:
    """The entries of ``sys.path`` that are the standard library's own."""
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    standard = [f"{folder}/{below}".rstrip("/") for folder in folders for below in ("", "lib-dynload")]
    return [entry for entry in sys.path if entry in standard]


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this process's import path, the standard library moved to its front.

    To be run with an environment without PYTHONPATH.
    """
    standard = standard_path()
    path = [*standard, *(entry for entry in sys.path if entry and entry not in standard)]
    return [sys.executable, "-P", "-s", "-c", BOOT, json.dumps(path), module, *arguments]
