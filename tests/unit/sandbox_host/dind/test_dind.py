"""Parts of the container with an engine of its own that need no engine."""

from __future__ import annotations

import http.server
import json
import tarfile
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from sandbox_host.dind import cgroups
from sandbox_host.dind.images import Unprepared, contents
from sandbox_host.dind.registry import RegistryRefused, credentials, exchange, registry_of
from sandbox_host.host.engine_status import VARIABLE, EngineStatus


class Registry(http.server.BaseHTTPRequestHandler):
    """Exchanges the token ``good`` as Azure's registries do, and no other."""

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        allowed = self.path == "/oauth2/exchange" and form["access_token"] == ["good"]
        allowed = allowed and form["grant_type"] == ["access_token"]
        answer = json.dumps({"refresh_token": f"for {form['service'][0]}"} if allowed else {})
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def registry() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("qlp-sandbox-{language}:1", None),
        ("library/debian", None),
        ("qlp.azurecr.io/qlp-sandbox-{language}:7", "qlp.azurecr.io"),
        ("localhost:5000/qlp-sandbox-{language}:7", "localhost:5000"),
    ],
)
def test_a_registry_is_distinguished_from_a_folder(image: str, expected: str | None) -> None:
    assert registry_of(image) == expected


def test_an_azure_token_is_exchanged_for_one_of_the_registry(registry: str) -> None:
    assert exchange(registry, "qlp.azurecr.io", "good") == "for qlp.azurecr.io"
    with pytest.raises(RegistryRefused, match="401"):
        exchange(registry, "qlp.azurecr.io", "bad")
    with pytest.raises(RegistryRefused, match=r"qlp\.azurecr\.io gave no token"):
        exchange("http://127.0.0.1:1", "qlp.azurecr.io", "good")


def test_other_registries_are_asked_without_a_token() -> None:
    assert credentials("localhost:5000") is None


def test_names_and_ids_are_read_from_saved_images(tmp_path: Path) -> None:
    ids = ["a" * 64, "b" * 64]
    listed = [
        {"Config": f"{ids[0]}.json", "RepoTags": ["one:1", "other:1"]},
        {"Config": f"blobs/sha256/{ids[1]}", "RepoTags": None},
    ]
    tar = tmp_path / "images.tar"
    with tarfile.open(tar, "w") as archive:
        info = tarfile.TarInfo("manifest.json")
        text = json.dumps(listed).encode()
        info.size = len(text)
        archive.addfile(info, BytesIO(text))
    assert dict(contents(tar)) == {"one:1": f"sha256:{ids[0]}", "other:1": f"sha256:{ids[0]}"}
    tar.write_bytes(b"something else")
    with pytest.raises(Unprepared, match=r"images\.tar was not written by docker save"):
        dict(contents(tar))


def test_controllers_are_handed_down_from_an_empty_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text("1\n")
    cgroups.delegate(tmp_path)
    assert (tmp_path / "init/cgroup.procs").read_text() == "1"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_version_1_groups_are_left_alone(tmp_path: Path) -> None:
    cgroups.delegate(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_engine_state_is_handed_over_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EngineStatus.read() is None
    path = tmp_path / "run/engine.json"
    monkeypatch.setenv(VARIABLE, str(path))
    before = EngineStatus.read()
    assert before is not None
    assert before.state == "starting"
    told = EngineStatus("failed", "it died", "look at the log", restarts=2, last_line="no space")
    told.write(path)
    assert EngineStatus.read() == told
    assert [entry.name for entry in path.parent.iterdir()] == ["engine.json"]
