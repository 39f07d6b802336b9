from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import domain.intents.content as content_bounds
from domain.intents.content import MAX_CONTENT_BYTES, IntentContent
from domain.intents.events import REGISTRY
from domain.intents.struct import checked
from sandbox_host.run import job as jobs
from tests.support.intents.specification import PROGRAM


def program(**changes: Any) -> dict[str, Any]:
    return {"program": {**PROGRAM, **changes}}


def problem(value: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        checked(IntentContent, value)
    return "; ".join(f"{e['loc']} {e['msg']}" for e in caught.value.errors())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "give a text, a program, or both"),
        ({"text": "  \n"}, "must not be blank"),
        ({"text": 5}, "text"),
        ({"text": "a\x00b"}, "NUL"),
        ({"text": "x" * 8001}, "8000"),
        ({"text": "x", "colour": "red"}, "colour"),
        ({"text": "x", "metadata": {"a b": "c"}}, "metadata"),
        ({"text": "x", "metadata": {"a": "c" * 513}}, "metadata"),
        ({"text": "x", "metadata": {str(i): "" for i in range(33)}}, "metadata"),
        (program(language="Python 3"), "language"),
        (program(files={"../main.py": ""}), "relative path"),
        (program(files={"/etc/passwd": ""}), "relative path"),
        (program(files={"a//b": ""}), "relative path"),
        (program(files={"a\n": ""}), "relative path"),
        (program(files={"a\\b": ""}), "relative path"),
        (program(files={str(i): "" for i in range(65)}, entrypoint="0"), "files"),
        (program(files={"a": "", "b": ""}), "('program', 'entrypoint') Value error, name the file"),
        (program(files={}), "('program', 'files')"),
        (program(entrypoint="other.py"), "not among the files"),
        (program(files={"a": "", "a/b": ""}, entrypoint="a"), "both a file and a directory"),
        (program(files=[{"path": "a", "content": ""}] * 2, entrypoint="a"), "same path"),
        (
            program(files=[{"path": "a", "content": "?", "encoding": "base64"}]),
            "0, 'content') Value",
        ),
        (program(files={"ж" * 130: ""}), "takes 260 bytes in UTF-8, the limit is 255"),
        (program(files={f"a/{'漢' * 86}/b": ""}), "takes 258 bytes in UTF-8, the limit is 255"),
        (program(files={"a/" * 33 + "b": ""}), "33 folders deep, the limit is 32"),
        (program(args=["ж" * 4000] * 13), "args') Value error, takes 104000 bytes in UTF-8"),
        (
            program(environment={f"APP_{i}": "ж" * 4000 for i in range(13)}),
            "environment') Value error, takes 104068 bytes in UTF-8 together, the limit is 98304",
        ),
        (program(args=["a\x00"]), "NUL"),
        (program(args=["x"] * 65), "args"),
        (program(limits={"wall_seconds": 0}), "wall_seconds"),
        (program(limits={"wall_seconds": 301}), "wall_seconds"),
        (program(limits={"memory_bytes": 1}), "memory_bytes"),
        (program(limits={"processes": 0}), "processes"),
        (program(limits={"artifact_bytes": 64 * 1024**2 + 1}), "artifact_bytes"),
        (program(environment={"LD_PRELOAD": "x.so"}), "environment"),
        (program(environment={"APP_KEY": "a\x00"}), "NUL"),
        (program(environment={f"APP_{i}": "" for i in range(33)}), "environment"),
        (program(stdin="x" * MAX_CONTENT_BYTES), "the limit is"),
    ],
)
def test_out_of_bounds_content_names_the_field_and_the_bound(
    value: dict[str, Any], says: str
) -> None:
    assert says in problem(value)


def test_what_fits_a_file_system_and_an_argument_list_is_accepted() -> None:
    names = {"ж" * 127: "", f"a/{'漢' * 85}/b": "", "a/" * 32 + "c": ""}
    content = checked(
        IntentContent, program(files=names, entrypoint="ж" * 127, args=["ж" * 4096] * 12)
    )
    assert content.program is not None
    assert len(content.program.files) == 3


def test_what_was_recorded_before_there_was_a_bound_is_still_read() -> None:
    old = program(files={"ж" * 130: ""}, entrypoint="ж" * 130, args=["ж" * 4000] * 13)
    given = {"at": "2026-03-01T12:00:00Z", "intent_id": str(uuid4()), "tenant_id": "acme"}
    data = json.dumps({**given, "origin": "http", "content": old, "fingerprint": "f"})
    assert REGISTRY.revive_checked("IntentSubmitted", 1, data).type == "IntentSubmitted"


def test_the_bounds_are_those_of_the_sandbox_host() -> None:
    for name in (
        "MAX_NAME_BYTES",
        "MAX_FOLDERS_DEEP",
        "MAX_ARGUMENTS_BYTES",
        "MAX_ENVIRONMENT_BYTES",
    ):
        assert getattr(content_bounds, name) == getattr(jobs, name)


def test_short_and_long_form_of_files_are_the_same_request() -> None:
    files = [{"path": "main.py", "content": "print(6 * 7)", "encoding": "utf-8"}]
    short = checked(IntentContent, program())
    long = checked(IntentContent, program(files=files, entrypoint="main.py", stdin=""))
    assert short.fingerprint() == long.fingerprint()


def test_the_order_of_metadata_does_not_make_another_request() -> None:
    one = IntentContent(text="x", metadata={"a": "1", "b": "2"})
    other = IntentContent(text="x", metadata={"b": "2", "a": "1"})
    assert one.fingerprint() == other.fingerprint()


@given(st.text(max_size=40), st.text(max_size=40))
def test_different_texts_have_different_fingerprints(one: str, other: str) -> None:
    def fingerprint(text: str) -> str | None:
        try:
            return IntentContent(text=text).fingerprint()
        except ValidationError:
            return None

    if one != other and fingerprint(one) is not None:
        assert fingerprint(one) != fingerprint(other)


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), min_size=1, max_size=4))
def test_accepted_paths_stay_inside_the_folder(files: dict[str, str]) -> None:
    try:
        content = checked(
            IntentContent,
            {"program": {"language": "python", "files": files, "entrypoint": min(files)}},
        )
    except ValidationError:
        return
    assert content.program is not None
    for file in content.program.files:
        assert not file.path.startswith("/")
        assert ".." not in file.path.split("/")
        assert "\x00" not in file.content
