"""The images by parsing (no Docker engine): what is copied exists, what is drawn is exported, nobody is root."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from raylign.telemetry.sinks import RayMetricsSink

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continuation lines joined."""
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build; its last matching line decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = Path(path).parts
        names = [path, *("/".join(parts[:n]) for n in range(1, len(parts)))]
        if any(
            fnmatch.fnmatch(name, pattern) or (line.startswith("**/") and fnmatch.fnmatch(Path(name).name, pattern))
            for name in names
        ):
            verdict = not line.startswith("!")
    return verdict


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_every_copied_path_exists_and_is_in_the_context(variant: str) -> None:
    stages = {arguments.split()[2] for name, arguments in instructions() if name == "FROM"}
    copied = []
    for name, arguments in instructions():
        words = [word.replace("${VARIANT}", variant) for word in shlex.split(arguments)]
        if name != "COPY":
            continue
        origin = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), "")
        if origin:
            assert origin in stages, f"no stage {origin}"
            continue
        copied += words[:-1]
    assert f"requirements/{variant}.lock" in copied and "platform/" in copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert not ignored(source.rstrip("/")), f".dockerignore keeps {source} out"
    assert ignored("outputs/run/metrics.jsonl") and ignored(".venv/bin/python") and ignored(".git/config")
    assert ignored("platform/raylign/__pycache__/x.pyc")


def test_the_image_is_locked_and_not_root() -> None:
    listed = instructions()
    froms = [arguments.split() for name, arguments in listed if name == "FROM"]
    assert froms[-1][2] == "runtime" and {"base-cpu", "base-gpu"} <= {words[2] for words in froms}
    for words in froms:
        image = words[0]
        known = image.startswith("base") or image in {other[2] for other in froms}
        assert known or (":" in image and not image.endswith(":latest")), f"{image} has no fixed version"
    installs = [arguments for name, arguments in listed if name == "RUN" and "pip install" in arguments]
    assert installs
    for arguments in installs:
        assert arguments.count("pip install") == arguments.count("pip install --no-deps"), "nothing is resolved"
    last = [index for index, (name, _) in enumerate(listed) if name == "FROM"][-1]
    runtime = listed[last:]
    assert ("USER", "ray") in runtime and any(name == "HEALTHCHECK" for name, _ in runtime)
    assert [name for name, _ in runtime].index("USER") > max(i for i, (name, _) in enumerate(runtime) if name == "RUN")
    assert any("--uid 1000" in arguments for name, arguments in listed if name == "RUN")


def test_compose() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"head", "worker", "prometheus", "grafana"}
    for name in ("head", "worker"):
        service = services[name]
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?"), "no token, no start"
        assert service["shm_size"] and "runs:/runs" in service["volumes"]
        assert "--metrics-export-port=8080" in service["command"]
    assert "--address=head:6379" in services["worker"]["command"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), source
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{port} is open to the network"
        assert set(service.get("depends_on", ())) <= set(services)


def test_prometheus_scrapes_every_node() -> None:
    scrape: dict[str, Any] = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"][0]
    (discovery,) = scrape["dns_sd_configs"]
    assert discovery["names"] == ["head", "worker"] and discovery["port"] == 8080
    mounts = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["prometheus"]
    assert any(volume.split(":")[1] in mounts["command"] for volume in mounts["volumes"])


def test_grafana_draws_what_is_exported() -> None:
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "raylign.json").read_text())
    source = yaml.safe_load((DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    known = {entry["uid"] for entry in source["datasources"]}
    exported = {f"ray_{name}" for name in (RayMetricsSink.METRIC, RayMetricsSink.STEP)}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) >= 12
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] in known and panel["title"]
        for target in panel["targets"]:
            (name,) = re.findall(r"ray_\w+", target["expr"])
            assert name in exported or name.startswith("ray_node_"), "tests/jobs checks these against a real head"
            assert "$run" in target["expr"] or name.startswith("ray_node_")
    (variable,) = dashboard["templating"]["list"]
    assert variable["query"] == f"label_values(ray_{RayMetricsSink.STEP}, run)"
    provider = yaml.safe_load((DOCKER / "grafana" / "provisioning" / "dashboards" / "raylign.yaml").read_text())
    place = provider["providers"][0]["options"]["path"]
    volumes = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{place}:ro" in volumes
