"""Artifacts of the steps that a step needs, as its inputs."""

from __future__ import annotations

from uuid import UUID

from domain.application.repository import IntentRepository
from domain.contracts.job import INPUTS_FOLDER, JobInput
from domain.intents.state import IntentState, Step
from domain.runs.artifacts import Artifacts
from domain.runs.tokens import RunOwner


class NoSuchInput(Exception):
    """The content is not an input of the run."""


class InputGone(Exception):
    """The content is an input of the run, but was deleted."""


def inputs_of(state: IntentState, step: Step) -> tuple[JobInput, ...]:
    """The artifacts of the steps that ``step`` needs, with their paths in its working directory."""
    return tuple(
        JobInput(
            path=f"{INPUTS_FOLDER}/{name}/{artifact.name}",
            size=artifact.size,
            sha256=artifact.sha256,
        )
        for name in step.needs
        for run in state.runs_of(name)[-1:]
        if run.outcome is not None
        for artifact in run.outcome.artifacts
    )


class RunInputs:
    """Gives a run the contents that its step needs, and no others."""

    def __init__(self, repository: IntentRepository, artifacts: Artifacts) -> None:
        self._repository = repository
        self._artifacts = artifacts

    async def content(self, owner: RunOwner, run_id: UUID, sha256: str) -> bytes:
        """The content of an input of the owner's run.

        Raises:
            NoSuchInput: it is not an input of the run.
            InputGone: it is, but was deleted.
        """
        state = await self._repository.load(owner.intent_id)
        run = state.run(run_id) if state is not None else None
        step = state.step(run.step) if state is not None and run is not None else None
        if state is None or step is None or state.tenant_id != owner.tenant_id:
            raise NoSuchInput("there is no such run")
        if sha256 not in {each.sha256 for each in inputs_of(state, step)}:
            raise NoSuchInput("the step of this run does not get this content")
        content = await self._artifacts.content(owner.tenant_id, sha256)
        if content is None:
            raise InputGone("the content has expired and is deleted")
        return content
