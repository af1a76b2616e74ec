"""Folders for libraries that keep files in a user's home, where that cannot be written."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from raylign.config.machine import folder_fault

XDG = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share"}


def give_home(cache_dir: str) -> None:
    """Set the variables by which libraries find these folders, for this process and those that it starts.

    Where home can be written, nothing is set; else they lie in `cache_dir` (the run's), or without one in a temporary
    folder that is removed when this process ends. Matplotlib, W&B, vLLM, torch and Hugging Face heed them.
    """
    unfit = [name for name, place in XDG.items() if folder_fault(Path(os.environ.get(name) or f"~/{place}"))]
    if not unfit:
        return
    base = Path(cache_dir).expanduser() / "home" if cache_dir else Path(tempfile.mkdtemp(prefix="raylign-home-"))
    if not cache_dir:
        atexit.register(shutil.rmtree, base, ignore_errors=True)
    for name in unfit:
        folder = base / XDG[name]
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder.absolute())
