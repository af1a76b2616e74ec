"""What a program can read, and the private root that shows it nothing else."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from raylign import kernel

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SHARED = ("/lib", "/lib64", "/usr/lib")  # shared libraries
PLAIN = ("/etc/ld.so.cache", "/usr/share/zoneinfo")  # where libraries are, time zones
SYSTEM = (*SHARED, *PLAIN)
PACKAGES = ("site-packages", "dist-packages")  # where a standard library keeps what is not standard
SCRATCH = "/scratch"
FLAGS = ((os.ST_NOSUID, 2), (os.ST_NODEV, 4), (os.ST_NOEXEC, 8), (os.ST_NOATIME, 1024), (os.ST_NODIRATIME, 2048))
RELATIME = (os.ST_RELATIME, 1 << 21)


def readable(packages: Sequence[str]) -> tuple[str, ...]:
    """For a private root: the standard library (`enter_private_root` hides the packages inside it), the system's
    shared libraries, and the named packages. Raises ImportError for a package that is not installed.
    """
    paths = (*SYSTEM, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_folders(packages))
    return tuple(path for path in dict.fromkeys(paths) if os.path.exists(path))


def libraries(packages: Sequence[str]) -> tuple[str, ...]:
    """Without a private root: folders of shared libraries alone, and the named packages.

    Landlock takes nothing back from a folder that it has given, so that neither /usr/lib nor the standard library is
    given: packages that nobody named lie in both. Raises ImportError for a package that is not installed.
    """
    shared = sorted(str(path) for root in SHARED for path in Path(root).glob("*-linux-gnu*"))
    return tuple(path for path in dict.fromkeys((*shared, *PLAIN, *_folders(packages))) if os.path.exists(path))


def _folders(packages: Sequence[str]) -> list[str]:
    paths: list[str] = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ImportError(f"sandbox.packages: {package} is not installed")
        folders = list(spec.submodule_search_locations or [spec.origin or ""])
        paths += [*folders, *(f"{folder}.libs" for folder in folders)]
    return paths


def enter_private_root(paths: Iterable[str], folder: str) -> None:
    """Make a root of this mount namespace that holds the paths, read-only, devices and an empty scratch folder.

    folder: an existing empty one. Raises OSError.
    """
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for path in sorted(paths):  # a folder comes before what lies in it
        _show(path, folder)
        for name in PACKAGES:
            _hide(f"{folder}{path}/{name}")
    for device in DEVICES:
        _show(device, folder)
    Path(folder + SCRATCH).mkdir()
    kernel.change_root(folder)
    kernel.mount("none", "/", flags=kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV)


def mount_scratch(size_mb: int, user: int, group: int) -> None:
    """A private folder in memory, which goes with the mount namespace. Raises OSError."""
    options = f"size={size_mb}m,nr_inodes=4096,mode=700,uid={user},gid={group}"
    kernel.mount("tmpfs", SCRATCH, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)


def _show(path: str, root: str) -> None:
    target = Path(root + path)
    if target.exists() or target.is_symlink():  # beneath a folder that is shown already
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.islink(path):
        target.symlink_to(os.readlink(path))
        return
    if os.path.isdir(path):
        target.mkdir()
    else:
        target.touch()
    kernel.mount(path, str(target), flags=kernel.MS_BIND | kernel.MS_REC)
    device = path in DEVICES
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_NOSUID | _locked(path)
    kernel.mount("none", str(target), flags=flags | (0 if device else kernel.MS_RDONLY | kernel.MS_NODEV))


def _hide(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64k,mode=755")


def _locked(path: str) -> int:
    """Flags that a user namespace must keep on a mount that it did not make."""
    have = os.statvfs(path).f_flag
    return sum(flag for bit, flag in (*FLAGS, RELATIME) if have & bit)
