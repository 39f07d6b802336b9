"""App settings: the environment and ``local.settings.json``, and ``%NAME%`` in bindings.

Source: https://learn.microsoft.com/azure/azure-functions/functions-develop-local#local-settings-file
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from infra.local.functions_host import jsonc
from infra.local.functions_host.errors import HostStartupError

_REFERENCE = re.compile(r"%([^%]*)%")


@dataclass(frozen=True)
class LocalSettings:
    """The contents of ``local.settings.json``.

    Attributes:
        values: app settings by name.
        http_port: ``Host.LocalHttpPort``, or None.
    """

    values: Mapping[str, str]
    http_port: int | None = None


def read_local_settings(path: Path) -> LocalSettings:
    """Read a ``local.settings.json``; HostStartupError names the wrong entry."""
    document = jsonc.read_object(path)
    if document.get("IsEncrypted"):
        raise HostStartupError(
            f"{path}: IsEncrypted is true; run `func settings decrypt` or set it to false"
        )
    values = document.get("Values") or {}
    if not isinstance(values, dict):
        raise HostStartupError(f"{path}: Values must be an object of strings")
    for name, value in values.items():
        if not isinstance(value, str):
            raise HostStartupError(f"{path}: Values.{name} must be a string; put it in quotes")
        if not name or "=" in name or "\0" in name + value:
            raise HostStartupError(f"{path}: Values.{name!r} cannot be an environment variable")
    return LocalSettings(values, _http_port(path, document.get("Host") or {}))


def _http_port(path: Path, section: object) -> int | None:
    port = section.get("LocalHttpPort") if isinstance(section, dict) else section
    if port is None:
        return None
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise HostStartupError(f"{path}: Host.LocalHttpPort must be a number from 0 to 65535")
    return port


def export(values: Mapping[str, str], environ: MutableMapping[str, str]) -> None:
    """Add the settings to the environment; existing variables stay, as in Core Tools."""
    for name, value in values.items():
        environ.setdefault(name, value)


def resolve(text: str, environ: Mapping[str, str], where: str) -> str:
    """Replace every ``%NAME%`` by the setting's value.

    Raises:
        HostStartupError: a setting is missing; names it and ``where`` (function and binding).
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        value = lookup(name, environ)
        if value is None:
            raise HostStartupError(
                f"{where}: the setting {name!r} of %{name}% is not set; "
                "set it in the environment or in Values of local.settings.json"
            )
        return value

    if text.count("%") % 2:
        raise HostStartupError(f"{where}: {text!r} has a '%' without its closing '%'")
    return _REFERENCE.sub(value_of, text)


def lookup(name: str, environ: Mapping[str, str]) -> str | None:
    """Return a setting; for ``a:b`` and ``a.b`` also as ``a__b``, the spelling on Linux plans."""
    for spelling in (name, name.replace(":", "__"), name.replace(".", "__").replace(":", "__")):
        if (value := environ.get(spelling)) is not None:
            return value
    return None


def is_disabled(function_name: str, environ: Mapping[str, str]) -> bool:
    """Return whether ``AzureWebJobs.<function>.Disabled`` is true or 1.

    Source: https://learn.microsoft.com/azure/azure-functions/disable-function
    """
    value = lookup(f"AzureWebJobs.{function_name}.Disabled", environ)
    return value is not None and value.strip().lower() in {"true", "1"}
