"""A later release of the application, for as long as a test is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from domain.intents.events import REGISTRY, EventRegistry, IntentEvent


@contextmanager
def later_release(*changed: type[IntentEvent]) -> Iterator[None]:
    """Within it, ``changed`` are at their second version: written so, and read in both."""
    versions = {model: model.schema_version for model in changed}
    readers, upcasters = REGISTRY._readers, REGISTRY.upcasters
    try:
        for model in changed:
            model.schema_version = 2
        later = EventRegistry(REGISTRY.types, {(model.type, 1): dict for model in changed})
        _set("_readers", later._readers)
        _set("upcasters", later.upcasters)
        yield
    finally:
        for model, version in versions.items():
            model.schema_version = version
        _set("_readers", readers)
        _set("upcasters", upcasters)


def _set(name: str, value: object) -> None:
    object.__setattr__(REGISTRY, name, value)
