"""The languages that programs may be written in.

Adding one is an entry here and an image (`sandbox_host/images`); see ``docs/sandbox.md``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """One language.

    Attributes:
        name: as it stands in a program's ``language``.
        interpreter: executes the entrypoint; looked up in the sandbox's ``PATH``.
        entrypoint: the usual file name of a program with one file.
        environment: variables that its interpreter needs in a sandbox.
    """

    name: str
    interpreter: str
    entrypoint: str
    environment: tuple[tuple[str, str], ...] = ()


LANGUAGES: dict[str, Language] = {
    language.name: language
    for language in (
        Language(
            "python",
            "python3",
            "main.py",
            # Unbuffered, so that output survives a kill at the deadline.
            (("PYTHONUNBUFFERED", "1"), ("PYTHONDONTWRITEBYTECODE", "1")),
        ),
        Language("node", "node", "main.js"),
        Language("shell", "sh", "main.sh"),
        Language("ruby", "ruby", "main.rb"),
    )
}
