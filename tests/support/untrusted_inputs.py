"""Every place where the code reads untrusted JSON as a type, found in the source."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, get_args

from pydantic import RootModel

from domain.contracts.strict_json import MAX_NODES
from domain.intents.events import EVENT_TYPES, MAX_EVENT_NODES
from domain.planning.answers import MAX_ANSWER_NODES, CompareAnswer, PlanAnswer, RepairAnswer
from tests.support import ROOT

_READERS = ("read_as", "checked", "parse_body")

#: Readers that are given their type, and the types that are theirs.
_GIVEN = {
    ("functions.http", "model"): (),  # by the callers of `parse_body`
    ("domain.intents.struct", "type_"): (),  # by the callers of `checked`
    ("domain.planning.language_model", "form"): (PlanAnswer, RepairAnswer, CompareAnswer),
    ("domain.intents.events", "model"): tuple(EVENT_TYPES.values()),
}

LAX_READERS = ("model_validate", "model_validate_json", "validate_python", "validate_json")

#: Modules that have pydantic read something else, and why that is as good.
OTHER_READERS = {
    "domain.contracts.strict_json": "it is the reader",
    "domain.models.settings": "texts of the environment",
    "sandbox_host.settings": "texts of the environment",
    "domain.planning.answers": "names, read before",
    "domain.planning.wire": "counted before; a provider may be lax",
    "domain.messaging.routing": "limits, read before",
    "domain.contracts.envelope": "a CloudEvent, whose rules are its own",
    "domain.eventlog.transfer": "lines of bounded size, with strict fields",
    "functions.sandbox_http": "a part of an address",
    "functions.similar_http": "query parameters",
    "sandbox_host.run.artifacts": "a name",
}

_ID = "1f69b59d-cf1f-4cc2-967a-2cae76dd178c"
_SHA256 = "2e91829dbceb8e9be15bcaf346b6b653572c4542a63f36998e8f9531415e3e79"
_LIMITS = {
    "wall_seconds": 1.5,
    "memory_bytes": 64 * 1024**2,
    "output_bytes": 1000,
    "processes": 8,
    "disk_bytes": 2 * 1024**2,
    "artifact_bytes": 1000,
}
_FILES = [{"path": "a/main.py", "content": "cHJpbnQoMSk=", "encoding": "base64"}]
_PROGRAM = {
    "language": "python",
    "files": _FILES,
    "entrypoint": "a/main.py",
    "args": ["x"],
    "stdin": "y",
    "environment": {"APP_MODE": "dry"},
    "limits": _LIMITS,
}
_STEP = {
    "name": "main",
    "needs": ["first"],
    "language": "python",
    "files": [{"path": "main.py", "content": "1"}],
    "entrypoint": "main.py",
    "args": ["x"],
    "stdin": "y",
}
_MOMENT = "2026-03-01T12:00:00Z"

#: Of each type that is read, a value with all of its fields.
EXAMPLES: dict[str, Any] = {
    "IntentContent": {
        "text": "six by seven",
        "program": _PROGRAM,
        "planning": {"reuse": "never"},
        "metadata": {"a": "b"},
    },
    "Program": _PROGRAM,
    "Limits": _LIMITS,
    "Cancellation": {"reason": "why"},
    "KillRequest": {"reason": "why"},
    "SearchRequest": {
        "text": "six",
        "status": ["failed"],
        "created_after": _MOMENT,
        "created_before": _MOMENT,
        "language": "python",
        "limit": 5,
        "threshold": 0.5,
    },
    "ReplayRequest": {
        "where": "status=failed",
        "ids": [_ID],
        "to": "nowhere",
        "limit": 5,
        "execute": False,
        "expected": 3,
    },
    "Heartbeat": {
        "host": "h",
        "runs": [
            {
                "run_id": _ID,
                "intent_id": _ID,
                "token": "t",
                "output": [{"seq": 0, "stream": "stdout", "text": "x"}],
            }
        ],
    },
    "Orders": {"orders": {_ID: "kill"}},
    "SandboxJob": {
        **_PROGRAM,
        "run_id": _ID,
        "intent_id": _ID,
        "attempt": 2,
        "token": "t",
        "inputs": [{"path": "inputs/a/b", "size": 1, "sha256": _SHA256}],
    },
    "SandboxResult": {
        "run_id": _ID,
        "intent_id": _ID,
        "verdict": "exited",
        "exit_code": 1,
        "signal": 9,
        "stdout": "a",
        "stderr": "b",
        "stdout_truncated": True,
        "stderr_truncated": True,
        "stdout_bytes": 1,
        "stderr_bytes": 1,
        "usage": {
            "wall_ms": 1.5,
            "cpu_user_ms": 1.5,
            "cpu_system_ms": 1.5,
            "peak_memory_bytes": 1,
            "output_bytes": 1,
            "disk_bytes": 1,
            "peak_processes": 1,
        },
        "runtime": "docker",
        "image": "sha256:1",
        "error": "e",
        "queued_ms": 1.5,
        "warm": True,
        "artifacts": [{"name": "a", "size": 1, "sha256": _SHA256, "content": "eA=="}],
        "skipped_artifacts": [{"name": "b", "reason": "r"}],
        "more_skipped_artifacts": 3,
        "behaviour": {
            "executed": ["sh"],
            "refused_syscalls": {"mount": 1},
            "network_attempts": 1,
            "limits_hit": ["disk_bytes"],
        },
    },
    "NotStarted": {"errno": 2},
    "Report": {
        "returncode": 0,
        "killed": "output",
        "stdout_bytes": 1,
        "stderr_bytes": 1,
        "packed": 1,
        "skipped": [{"name": "a", "reason": "r"}],
        "more": 0,
    },
    "PlanAnswer": {"explanation": "e", "steps": [_STEP], "expected_artifacts": ["a.png"]},
    "RepairAnswer": {
        "explanation": "e",
        **{name: value for name, value in _STEP.items() if name not in ("name", "needs")},
    },
    "CompareAnswer": {"reason": "r", "equivalent": True},
}


@dataclass(frozen=True, slots=True)
class UntrustedInput:
    """A type that is read somewhere, the bound of its reader, and an honest value as JSON."""

    type: type[Any]
    max_nodes: int
    example: Any

    def __str__(self) -> str:
        return self.type.__name__


@cache
def untrusted_inputs() -> tuple[UntrustedInput, ...]:
    """All of them, each type once, with the widest bound that it is read with."""
    bounds: dict[type[Any], int] = {}
    for module, call in calls(_READERS):
        for type_ in _types(module, call):
            bounds[type_] = max(bounds.get(type_, 0), _bound(module, call))
    recorded = _recorded()
    return tuple(
        UntrustedInput(type_, bound, recorded.get(type_.__name__) or EXAMPLES[type_.__name__])
        for type_, bound in bounds.items()
    )


def calls(names: Collection[str]) -> Iterator[tuple[str, ast.Call]]:
    """The calls of functions and methods of these names, with the module each is in."""
    for folder in ("domain", "functions", "sandbox_host"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if path.stem == "launcher":
                continue  # text that runs elsewhere
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _name(node.func) in names:
                    yield module.removesuffix(".__init__"), node


def _name(function: ast.expr) -> str:
    return str(getattr(function, "id", getattr(function, "attr", "")))


def _types(module: str, call: ast.Call) -> tuple[type[Any], ...]:
    names = [argument.id for argument in call.args if isinstance(argument, ast.Name)]
    found = vars(import_module(module))
    types = tuple(
        each
        for name in names
        if isinstance(found.get(name), type)
        for each in _one_of(found[name]) or [found[name]]
    )
    return types or next(_GIVEN[module, name] for name in names if (module, name) in _GIVEN)


def _one_of(type_: type[Any]) -> tuple[type[Any], ...]:
    """The types of which a root model takes any."""
    return get_args(type_.model_fields["root"].annotation) if issubclass(type_, RootModel) else ()


def _bound(module: str, call: ast.Call) -> int:
    """The bound that the call names by keyword, or last."""
    names = [word.value for word in call.keywords if word.arg == "max_nodes"] + call.args[3:4]
    bounds = [vars(import_module(module)).get(getattr(name, "id", "")) for name in names]
    return next((bound for bound in bounds if isinstance(bound, int)), MAX_NODES)


def _recorded() -> dict[str, Any]:
    """An event of each type, as the log has it."""
    found: dict[str, Any] = {}
    for path in sorted((ROOT / "tests/recorded_events/streams").glob("*.json")):
        for event in json.loads(path.read_text())["events"]:
            model = EVENT_TYPES.get(event["type"])
            known = found.get(event["type"], {})
            if model and model.schema_version == event["schema_version"]:
                found[event["type"]] = max(known, event["data"], key=lambda it: len(json.dumps(it)))
    assert found.keys() == EVENT_TYPES.keys()
    return found


assert MAX_EVENT_NODES >= MAX_ANSWER_NODES >= MAX_NODES
