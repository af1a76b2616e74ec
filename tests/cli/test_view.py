"""`raylign view`: pages where they should be, served on this machine only, and following a run that goes on."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from raylign.cli import main
from raylign.cli.view import pages_of, server
from raylign.config.schema import TelemetryConfig
from raylign.errors import RunError
from raylign.telemetry.recorder import Recorder


def a_run(folder: Path, steps: int = 3) -> Path:
    recorder = Recorder(folder, TelemetryConfig())
    for step in range(steps):
        recorder.metrics(step + 1, {"loss": 1.0 / (step + 1)}, "sft")
    recorder.close()
    return folder


def test_one_page_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = a_run(tmp_path / "a" / "run"), a_run(tmp_path / "b" / "run")
    assert main(["view", str(one), str(two), "--no-serve"]) == 0
    assert (one / "report.html").exists() and (two / "report.html").exists()
    assert str(one / "report.html") in capsys.readouterr().out
    assert main(["view", str(one), str(two), "--no-serve", "--out", str(tmp_path / "pages")]) == 0
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["run-2.html", "run.html"]


@pytest.mark.parametrize("out", [False, True], ids=["into the run folder", "elsewhere"])
def test_a_page_that_is_a_link_is_replaced_not_followed(out: bool, tmp_path: Path) -> None:
    run, target = a_run(tmp_path / "run"), tmp_path / "mine"
    target.write_text("mine")
    page = tmp_path / "pages" / "run.html" if out else run / "report.html"
    page.parent.mkdir(exist_ok=True)
    page.symlink_to(target)
    assert main(["view", str(run), "--no-serve", *(["--out", str(page.parent)] if out else [])]) == 0
    assert target.read_text() == "mine" and not page.is_symlink() and '"steps":3' in page.read_text()


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path / "nowhere")]) == 1
    assert "no run folder" in capsys.readouterr().err
    run = a_run(tmp_path / "run")
    with pytest.raises(RunError, match="twice"):
        pages_of([run, run], "", 10)


HOSTS = {
    "127.0.0.1": 200, "127.0.0.1:80": 200, "localhost:9": 200, "LOCALHOST": 200, "[::1]:8000": 200,
    "evil.example": 403, "evil.example:8000": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403,
    "evil@localhost": 403, "localhost:80:80": 403, "": 403, "[::1": 403, "0.0.0.0": 403, "127.0.0.2": 403,
    "127.0.0.1\r\nHost: evil.example": 403,
}  # fmt: skip


def asked_as(port: int, name: str) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(4096).split()[1])


def test_the_server_answers_with_the_run_as_it_is(tmp_path: Path) -> None:
    run = a_run(tmp_path / "my run")
    pages = pages_of([run], "", 10)
    pages["my run.html"].write()
    os.utime(run / "report.html", ns=(0, 0))  # older than what the run has written
    serving = server(pages)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        host, port = serving.server_address[:2]
        assert host == "127.0.0.1"
        a_run(run, 5)
        for address in ("my%20run.html", ""):
            with urlopen(f"http://127.0.0.1:{port}/{address}", timeout=60) as reply:
                assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
                assert '"steps":8' in reply.read().decode()
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"http://127.0.0.1:{port}/../my%20run/resolved.yaml", timeout=60)
        with pytest.raises(RunError, match="--port"):
            server(pages, int(port))
        for name, status in HOSTS.items():
            assert asked_as(int(port), name) == status, name
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()
