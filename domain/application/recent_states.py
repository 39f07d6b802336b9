"""The states in which this process saw intents last that are in progress."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from domain.intents.state import IntentState

#: How many intents are remembered, and how many characters of programs and output in all.
MOST_INTENTS = 4_000
MOST_CHARACTERS = 32 * 1024 * 1024


class RecentStates:
    """Remembers the latest states of intents that have not ended; forgets the oldest first."""

    def __init__(
        self, most_intents: int = MOST_INTENTS, most_characters: int = MOST_CHARACTERS
    ) -> None:
        self._most = (most_intents, most_characters)
        self._states: OrderedDict[UUID, tuple[IntentState, int]] = OrderedDict()
        self._characters = 0

    def get(self, intent_id: UUID) -> IntentState | None:
        """The state that was put last; None if it is not remembered."""
        found = self._states.get(intent_id)
        return None if found is None else found[0]

    def put(self, state: IntentState) -> None:
        """Remember a state in place of an earlier one; an intent that has ended is forgotten."""
        known = self._states.get(state.id)
        if known is not None:
            if known[0].version > state.version:
                return  # it was read before the other was appended
            del self._states[state.id]
            self._characters -= known[1]
        if state.status.terminal:
            return
        characters = _characters(state)
        self._states[state.id] = (state, characters)
        self._characters += characters
        most_intents, most_characters = self._most
        while len(self._states) > most_intents or self._characters > most_characters:
            _, (_, characters) = self._states.popitem(last=False)
            self._characters -= characters


def _characters(state: IntentState) -> int:
    programs = [state.content.program, *(step.program for step in state.steps)]
    files = {id(each): each for program in programs if program for each in program.files}
    outcomes = [run.outcome for run in state.runs if run.outcome is not None]
    return (
        len(state.content.text or "")
        + sum(len(each.stdin) for each in programs if each)
        + sum(len(each.content) for each in files.values())
        + sum(len(each.stdout) + len(each.stderr) for each in outcomes)
    )
