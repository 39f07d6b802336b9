"""Jobs that cannot run are refused with the field and the reason."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import uuid4

import pytest

from domain.contracts.job import JobInput, SandboxJob
from sandbox_host.run.job import MAX_ARGUMENT_BYTES, InvalidJob, prepare, with_inputs


def job(**changes: Any) -> SandboxJob:
    fields: dict[str, Any] = {
        "run_id": uuid4(),
        "intent_id": uuid4(),
        "language": "python",
        "files": [{"path": "main.py", "content": "print(1)"}],
        "entrypoint": "main.py",
        **changes,
    }
    return SandboxJob.model_validate(fields)


def file(path: str, content: str = "", encoding: str = "utf-8") -> dict[str, str]:
    return {"path": path, "content": content, "encoding": encoding}


_SMILES = {f"APP_{n}": "\U0001f600" * 4096 for n in range(5)}


def test_files_are_decoded() -> None:
    files = [file("main.py", "é"), file("a/b.bin", "AP8=", "base64")]
    assert prepare(job(files=files)).files == {"main.py": "é".encode(), "a/b.bin": b"\x00\xff"}


def test_the_command_names_the_entrypoint_in_the_workspace() -> None:
    shell = prepare(job(language="shell", args=["a", ""]))
    assert shell.command("/w") == ["sh", "/w/main.py", "a", ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entrypoint": "gone.py"}, "entrypoint: 'gone.py' is not among files"),
        ({"files": [file("main.py"), file("main.py")]}, "files.1.path: 'main.py' is given twice"),
        ({"files": [file("main.py"), file("main.py/x")]}, "is a file and also the folder of"),
        ({"files": [file("main.py", "!", "base64")]}, "files.0.content: not valid base64"),
        ({"files": [file("ж" * 128)], "entrypoint": "ж" * 128}, "files.0.path: 'ж"),
        (
            {"files": [file("main.py"), file("a/" + "ж" * 128)]},
            "takes 256 bytes, the limit for one name",
        ),
        (
            {"files": [file("main.py"), file("d/" * 33 + "f")]},
            "files.1.path: nested 33 folders deep",
        ),
        ({"environment": {"APP_A": "\U0001f600" * 4096, **_SMILES}}, "environment: takes 98334"),
        ({"args": ["a\0b"]}, "args.0: contains a NUL character"),
        ({"args": ["x" * (MAX_ARGUMENT_BYTES + 1)]}, "args.0: takes 32769 bytes"),
        ({"args": ["x" * MAX_ARGUMENT_BYTES] * 4}, "args: take 131072 bytes together"),
        (
            {"files": [file("main.py", "x" * 2**20)], "limits": {"disk_bytes": 2**20}},
            "limits.disk_bytes: the files alone take 1048576",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidJob) as refusal:
        prepare(job(**changes))
    assert message in str(refusal.value)


def test_what_just_fits_is_accepted() -> None:
    path = "/".join(["d"] * 32 + ["ж" * 127 + "a"])
    wide = {f"APP_{n}": "\U0001f600" * 4096 for n in range(5)}
    prepare(job(files=[file("main.py"), file(path)], environment=wide))


def test_more_files_and_folders_than_a_box_holds_are_refused() -> None:
    content = b"x"
    inputs = tuple(
        JobInput(
            path="/".join(["inputs", *(f"{n}.{depth}" for depth in range(31)), "f"]),
            size=1,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for n in range(512)
    )
    found = prepare(job().model_copy(update={"inputs": inputs}))
    with pytest.raises(InvalidJob, match="files: 16386 in all, with folders and inputs"):
        with_inputs(found, {inputs[0].sha256: content})


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidJob, match="stdin: contains a lone surrogate"):
        prepare(job().model_copy(update={"stdin": "\ud800"}))
