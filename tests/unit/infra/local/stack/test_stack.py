"""What keeps a local stack from being started or deleted is told before anything is done."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from infra.local.stack.config import StackConfig, StackError, WrongSetting
from infra.local.stack.stack import LocalStack


def stack(data: Path, **settings: str) -> LocalStack:
    config = StackConfig.from_environment({"QLP_DATA_DIR": str(data), **settings})
    return LocalStack(config, lambda _name, _seconds: None)


async def test_all_ports_that_are_taken_are_named_at_once(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ports = {
            "QLP_HTTP_PORT": str(one.getsockname()[1]),
            "QLP_AMQP_PORT": str(two.getsockname()[1]),
        }
        with pytest.raises(StackError) as refused:
            async with stack(tmp_path, **ports).running():
                pass
    for port in ports.values():
        assert f"port {port} cannot be used (Address already in use)" in str(refused.value)
    assert str(refused.value).endswith("make up QLP_HTTP_PORT=0 QLP_AMQP_PORT=0")


async def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WrongSetting, match=r"QLP_DATA_DIR: .*/file/data: Not a directory"):
        async with stack(tmp_path / "file" / "data").running():
            pass


async def test_a_folder_that_is_not_a_stacks_data_is_not_deleted(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="is not a stack's data; nothing was deleted"):
        await stack(tmp_path).destroy()
    assert tmp_path.exists()


async def test_the_data_of_a_stack_that_runs_is_not_deleted(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StackError, match="is running already; stop it first"):
            await stack(tmp_path).destroy()
    assert tmp_path.exists()
