"""The configuration of a container, compared with what a Docker engine is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from domain.contracts.job import JobLimits
from sandbox_host.runtimes.containers.plan import AGENT_CAPABILITIES, Plan
from sandbox_host.runtimes.containers.workspace import Workspace
from sandbox_host.runtimes.docker.settings import container_settings
from sandbox_host.runtimes.oci.spec import spec_of


class Mounted:
    """A workspace that is not mounted."""

    pipes: ClassVar = {"marks": 1}

    def mounts(self) -> list[dict[str, Any]]:
        return [
            {"Type": "bind", "Source": f"/w/{name}", "Target": f"/{name}", "ReadOnly": name == "in"}
            for name in ("in", "box", "out")
        ]


PLAN = Plan(
    image="sha256:0",
    name="box-1",
    host="host",
    uid=62_001,
    limits=JobLimits(),
    seccomp=True,
    apparmor=True,
    cgroup_parent="/qlp/box-1",
    workspace=cast("Workspace", Mounted()),
)


@pytest.fixture
def made() -> dict[str, Any]:
    return spec_of(PLAN, "box-1", Path("/roots/0"), Path("/hosts"))


def test_it_has_the_limits_that_an_engine_is_told(made: dict[str, Any]) -> None:
    told = container_settings(PLAN)["host_config"]
    resources = made["linux"]["resources"]
    assert resources["memory"] == {"limit": told["mem_limit"], "swap": told["memswap_limit"]}
    assert resources["pids"] == {"limit": told["pids_limit"]}
    cpu = resources["cpu"]
    assert cpu["quota"] * 1e9 / cpu["period"] == told["nano_cpus"]
    assert made["linux"]["cgroupsPath"] == "/qlp/box-1/box-1"
    limits = {each["type"]: (each["soft"], each["hard"]) for each in made["process"]["rlimits"]}
    assert limits == {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (1024, 1024),
        "RLIMIT_MSGQUEUE": (0, 0),
    }


def test_it_is_isolated(made: dict[str, Any]) -> None:
    assert {each["type"] for each in made["linux"]["namespaces"]} == {
        *("pid", "network", "ipc", "uts", "mount", "cgroup")
    }
    assert made["root"]["readonly"]
    process = made["process"]
    assert process["noNewPrivileges"]
    assert process["apparmorProfile"] == "docker-default"
    for kind in ("bounding", "effective", "permitted"):
        assert process["capabilities"][kind] == [f"CAP_{name}" for name in AGENT_CAPABILITIES]
    assert "inheritable" not in process["capabilities"]
    assert "ambient" not in process["capabilities"]
    writable = [
        mount["destination"]
        for mount in made["mounts"]
        if mount["type"] == "bind" and "ro" not in mount["options"]
    ]
    assert writable == ["/box", "/out"]
    binds = [set(mount["options"]) for mount in made["mounts"] if mount["type"] == "bind"]
    assert all(options >= {"nosuid", "nodev"} for options in binds)


def test_the_filter_allows_what_dockers_form_allows_on_this_architecture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    seccomp = spec_of(PLAN, "box-1", Path("/roots/0"), Path("/hosts"))["linux"]["seccomp"]
    allowed = {
        name
        for rule in seccomp["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    assert seccomp["defaultAction"] == "SCMP_ACT_ERRNO"
    assert seccomp["architectures"] == ["SCMP_ARCH_X86_64"]
    assert "arch_prctl" in allowed
    assert "sync_file_range2" not in allowed
    assert not allowed & {"ptrace", "io_uring_setup", "mq_open", "bpf", "mount", "unshare"}
