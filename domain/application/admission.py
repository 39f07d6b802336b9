"""What an intent must satisfy to be accepted, beyond the form of its content."""

from __future__ import annotations

from domain.access.limits import LimitsStore
from domain.contracts.languages import LANGUAGES
from domain.intents.content import IntentContent


class NotAdmitted(Exception):
    """The intent is not accepted.

    Args:
        pointer: JSON Pointer of the field that is wrong.
        detail: what is wrong with it, and what would be accepted.
    """

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer}: {detail}")
        self.pointer = pointer
        self.detail = detail


class Admission:
    """Checks that the language exists, and that the tenant may have the limits."""

    def __init__(self, limits: LimitsStore) -> None:
        self._limits = limits

    async def check(self, tenant_id: str, content: IntentContent) -> None:
        """Return if the tenant may submit the content.

        Raises:
            NotAdmitted: names the field, and what would be accepted.
        """
        program = content.program
        if program is None:
            return
        if program.language not in LANGUAGES:
            known = ", ".join(repr(name) for name in LANGUAGES)
            raise NotAdmitted("/program/language", f"must be one of {known}")
        limits = await self._limits.of(tenant_id)
        for name, (_, ceiling) in limits.exceeded(program.limits).items():
            raise NotAdmitted(f"/program/limits/{name}", f"the tenant's ceiling is {ceiling:.15g}")
