"""Records event streams as the running system makes them, for the tests of schema evolution.

    python -m tests.recorded_events.record

Runs the local stack, plays the scenarios below and writes one file for each into ``streams/``:
the events as they lie in the log and the state they led to. A recording is never changed: one
that exists is left alone, so a new schema version gets scenarios with new names.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec

from domain.application.repository import IntentRepository
from domain.contracts.job import RESULT_TYPE
from domain.eventlog.log import EventLog
from domain.intents.state import IntentState
from tests.support.openai.chat import OpenAIServer, fault, program, repaired, step
from tests.support.stack import Client, RunningStack, running_stack, submission

STREAMS = Path(__file__).with_name("streams")

MEAN = {
    "language": "python",
    "files": {"main.py": "import sys; print('mean:', sum(map(int, sys.stdin)) / int(sys.argv[1]))"},
    "args": ["3"],
    "stdin": "10\n20\n60\n",
    "limits": {"wall_seconds": 5, "memory_bytes": 134217728},
}
SHELL = {
    "language": "shell",
    "files": [
        {"path": "run.sh", "content": "od -An -tx1 data/bytes.bin"},
        {"path": "data/bytes.bin", "content": "AAECAw==", "encoding": "base64"},
    ],
    "entrypoint": "run.sh",
}
TEXT = "Mittelwert dreier Zahlen – größer als 20? 📊"


def python(code: str, **limits: float) -> dict[str, Any]:
    return {"program": {"language": "python", "files": {"main.py": code}, "limits": limits}}


class Scenarios:
    """What clients, producers and the sandbox do; each method gives the id of the intent."""

    def __init__(self, stack: RunningStack, client: Client) -> None:
        self._stack = stack
        self._client = client

    async def sentence_and_program_succeed(self) -> str:
        body = {"text": TEXT, "program": MEAN, "metadata": {"team": "data", "ticket": "QLP-7"}}
        return str((await self._client.run(body))["id"])

    async def sentence_reuses_a_program(self) -> str:
        return str((await self._client.run({"text": TEXT}))["id"])

    async def shell_program_with_binary_file_succeeds(self) -> str:
        return str((await self._client.run({"program": SHELL}))["id"])

    async def sentence_without_a_planner_fails(self) -> str:
        return str((await self._client.run({"text": "nobody has solved this"}))["id"])

    async def program_exits_with_3(self) -> str:
        code = "import sys; sys.stderr.write('bad \\x00 input'); sys.exit(3)"
        return str((await self._client.run(python(code)))["id"])

    async def program_times_out(self) -> str:
        code = "print('begun', flush=True)\nwhile True: pass"
        return str((await self._client.run(python(code, wall_seconds=0.5)))["id"])

    async def program_is_ended_by_a_signal(self) -> str:
        code = "import os; os.kill(os.getpid(), 11)"
        return str((await self._client.run(python(code)))["id"])

    async def output_is_cut(self) -> str:
        return str((await self._client.run(python("print('x' * 5000)", output_bytes=100)))["id"])

    async def producer_submits_over_service_bus(self) -> str:
        tenant = await self._stack.tenant_of(self._client)
        body = submission(tenant, {"text": f"over the bus {uuid4()}", "program": MEAN})
        await self._stack.publish("intents", json.dumps(body))
        while True:
            for item in (await self._client.get("/intents")).body["items"]:
                if item["text"] == body["data"]["text"]:
                    return str((await self._client.finished(item["id"]))["id"])

    async def cancelled_with_a_reason_while_running(self) -> str:
        intent_id = await self._running(4)
        await self._client.call("POST", f"/intents/{intent_id}/cancel", {"reason": "zu spät"})
        await self._until(intent_id, "SandboxRunFinished")
        return intent_id

    async def cancelled_without_a_reason(self) -> str:
        intent_id = await self._running(2)
        await self._client.call("POST", f"/intents/{intent_id}/cancel", {})
        return intent_id

    async def killed_by_an_operator(self) -> str:
        intent_id = await self._running(30)
        operator = await self._stack.operator_of(self._client)
        body = {"reason": "läuft zu lange"}
        await operator.call("POST", f"/operations/intents/{intent_id}/kill", body)
        await self._client.finished(intent_id)
        return intent_id

    async def program_leaves_artifacts(self) -> str:
        code = (
            "import os, pathlib\n"
            "out = pathlib.Path(os.environ['OUT_DIR'])\n"
            "(out / 'plots').mkdir()\n"
            "(out / 'plots/größe.txt').write_text(os.environ['APP_GREETING'])\n"
            "(out / 'link').symlink_to('/etc/passwd')\n"
        )
        body = python(code, artifact_bytes=1000)
        body["program"]["environment"] = {"APP_GREETING": "grüß Gott", "TZ": "UTC"}
        return str((await self._client.run(body))["id"])

    async def program_leaves_more_than_is_named(self) -> str:
        code = (
            "import os\n"
            "os.chdir(os.environ['OUT_DIR'])\n"
            "for n in range(20): os.symlink('gone', f'{n:02}\\n')\n"
        )
        return str((await self._client.run(python(code)))["id"])

    async def sandbox_fails_once_and_the_retry_succeeds(self) -> str:
        intent_id = await self._running(3)
        events = await self._until(intent_id, "SandboxRunRequested")
        run_id = events[-1]["data"]["run_id"]
        data = {
            "run_id": run_id,
            "intent_id": intent_id,
            "verdict": "infrastructure_error",
            "runtime": "docker",
            "error": "the engine does not answer: start Docker",
        }
        result = submission(
            await self._stack.tenant_of(self._client), data, type=RESULT_TYPE, subject=intent_id
        )
        await self._stack.publish("sandbox-results", json.dumps(result))
        await self._client.finished(intent_id)
        return intent_id

    async def _running(self, seconds: float) -> str:
        code = f"import time; time.sleep({seconds}); print('awake')"
        reply = await self._client.submit(python(code))
        intent_id = str(reply.body["id"])
        await self._until(intent_id, "SandboxRunRequested")
        return intent_id

    async def _until(self, intent_id: str, type_: str) -> list[dict[str, Any]]:
        while True:
            reply = await self._client.get(f"/intents/{intent_id}/events")
            events: list[dict[str, Any]] = reply.body["items"]
            if any(event["type"] == type_ for event in events):
                return events

    def all(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """The scenarios by name, in the order in which they build on each other."""
        return {
            name: getattr(self, name)
            for name, member in vars(type(self)).items()
            if not name.startswith("_") and name != "all" and callable(member)
        }


class ModelScenarios(Scenarios):
    """What a language model does."""

    model: OpenAIServer

    async def model_writes_steps_that_build_on_one_another(self) -> str:
        left = "import os; open(os.environ['OUT_DIR'] + '/größe.txt', 'w').write('42')"
        found = "import shutil, os; print(open('inputs/load/größe.txt').read()); "
        kept = "shutil.copy('inputs/load/größe.txt', os.environ['OUT_DIR'])"
        plan = {
            "explanation": "Erst laden, dann zeigen.",
            "steps": [step(left, "load"), step(found + kept, "show", ("load",))],
            "expected_artifacts": ["größe.txt"],
        }
        self.model.script(plan)
        return str((await self._client.run({"text": TEXT}))["id"])

    async def model_is_away_and_then_mends_its_program(self) -> str:
        self.model.script(fault(503), program("print(1 / 0)"), repaired("print('mended')"))
        body = {"text": f"{TEXT} Nochmal!", "planning": {"reuse": "never"}}
        return str((await self._client.run(body))["id"])


async def read(stack: RunningStack, intent_id: str) -> tuple[list[dict[str, Any]], IntentState]:
    """The recorded events of an intent and the state they fold to."""
    async with stack.pool() as pool:
        repository = IntentRepository(EventLog(pool))
        records = await repository.history(UUID(intent_id))
        state = await repository.load(UUID(intent_id))
    if state is None:
        raise LookupError(f"no events of intent {intent_id}")
    fields = ("type", "schema_version", "data")
    return [{name: getattr(record, name) for name in fields} for record in records], state


async def record(folder: Path) -> None:
    """Play all scenarios; write the recordings that do not exist yet."""
    async with running_stack(folder / "without") as stack:
        await play_all(stack, Scenarios(stack, await stack.new_tenant()))
    model = OpenAIServer()
    await model.start()
    os.environ.update(model.environment())
    async with running_stack(folder / "with") as stack:
        scenarios = ModelScenarios(stack, await stack.new_tenant())
        scenarios.model = model
        await play_all(stack, scenarios)
    await model.aclose()


async def play_all(stack: RunningStack, scenarios: Scenarios) -> None:
    """Play ``scenarios``; write the recordings that do not exist yet."""
    for name, play in scenarios.all().items():
        path = STREAMS / f"{name}.json"
        events, state = await read(stack, await play())
        if path.exists():
            print(f"kept      {path.name}")
            continue
        recording = {"events": events, "state": msgspec.to_builtins(asdict(state))}
        path.write_text(json.dumps(recording, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"recorded  {path.name}: {', '.join(event['type'] for event in events)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="qlp-record-") as data:
        Path(data).chmod(0o711)
        asyncio.run(record(Path(data)))
