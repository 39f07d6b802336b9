"""Containers without an engine: images that are unpacked once, and what is left of boxes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.oci import engine as engine_module
from sandbox_host.runtimes.oci import roots as roots_module
from sandbox_host.runtimes.oci.engine import OciEngine
from sandbox_host.runtimes.oci.runtime import OciRuntime
from tests.support.sandbox.runtimes import ensure_image, open_runtime, prepared, run

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("needs_root")]


@pytest.fixture
async def runtime() -> AsyncIterator[OciRuntime]:
    opened = await open_runtime("oci")
    assert isinstance(opened, OciRuntime)
    yield opened
    await opened.aclose()


async def test_images_are_unpacked_once_and_then_need_no_engine(
    runtime: OciRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = (await run(runtime, prepared("print(1)"))).image or ""
    root = roots_module.ROOTS / image.removeprefix("sha256:")
    unpacked = root.stat().st_ino
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    alone = OciRuntime()
    try:
        readiness = await alone.preflight()
        assert readiness.ready, readiness
        result = await run(alone, prepared("print(2)"))
    finally:
        await alone.aclose()
    assert (result.stdout, result.image) == ("2\n", image)
    assert root.stat().st_ino == unpacked


async def test_a_root_is_never_changed_by_programs(runtime: OciRuntime) -> None:
    program = """\
for path in ("/x", "/etc/x", "/usr/x", "/in/x"):
    try: open(path, "w")
    except OSError as error: print(error.errno)
"""
    result = await run(runtime, prepared(program))
    assert set(result.stdout.split()) <= {"13", "30"}
    assert len(result.stdout.split()) == 4


async def test_nothing_is_left_of_a_box(runtime: OciRuntime) -> None:
    await asyncio.gather(*(run(runtime, prepared("print(1)")) for _ in range(4)))
    provisioned = runtime._provisions.current
    assert provisioned is not None
    await provisioned.maker.removals.wait_until_none()
    tag = runtime._tag
    for folder in (engine_module.STATE, engine_module._BUNDLES):
        assert [path.name for path in folder.glob(f"*{tag}*")] == []


async def test_what_cannot_start_says_why(
    runtime: OciRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "spec_of", _without_a_root)
    with pytest.raises(RuntimeFailure, match=r"did not get ready: .*nowhere"):
        await runtime.run(prepared("print(1)"))


def _without_a_root(*arguments: object) -> dict[str, object]:
    from sandbox_host.runtimes.oci.spec import spec_of

    made = spec_of(*arguments)  # type: ignore[arg-type]
    made["root"]["path"] = "/nowhere"
    return made


async def test_an_unknown_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    await ensure_image()
    runtime = OciRuntime("qlp-no-such-{language}:1")
    try:
        readiness = await runtime.preflight()
    finally:
        await runtime.aclose()
    assert not readiness.ready
    assert "qlp-no-such-python:1" in readiness.reason


async def test_roots_that_no_name_leads_to_are_deleted(tmp_path: Path) -> None:
    roots = roots_module.Roots(tmp_path)
    for name in ("kept", "old", "partial-new"):
        (tmp_path / name).mkdir()
    (tmp_path / "image.name").write_text("sha256:kept")
    roots.forget()
    roots.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.name", "kept", "partial-new"]


async def test_its_boxes_are_listed_with_their_hosts(tmp_path: Path) -> None:
    engine = OciEngine()
    bundle = engine_module._BUNDLES / "qlp-box-of-a-test"
    bundle.mkdir(parents=True)
    try:
        (bundle / "host").write_text("a-dead-host")
        (bundle / "config.json").write_text(json.dumps({}))
        await engine.facts()
        assert (await engine.boxes())[bundle.name] == "a-dead-host"
        await engine.remove(bundle.name)
        assert bundle.name not in await engine.boxes()
    finally:
        engine.close()
