"""Microsoft's converters between host data and function arguments, with type annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from azure.functions.meta import Datum, get_binding_registry

__all__ = ["Converter", "Datum", "converter"]


class Converter(Protocol):
    """The converter of a binding in azure.functions."""

    def decode(self, data: Datum, *, trigger_metadata: Mapping[str, Datum] | None) -> object:
        """Return the function's argument."""

    def encode(self, obj: object, *, expected_type: type | None) -> Datum:
        """Return a result as host data; NotImplementedError for a type that is not supported."""

    def check_input_type_annotation(self, pytype: object) -> bool:
        """Return whether a parameter may have this annotation; may raise TypeError."""

    def check_output_type_annotation(self, pytype: object) -> bool:
        """Return whether a function may return this type."""


def converter(binding_type: str) -> Converter:
    """Return the converter of a binding type that this host supports."""
    return cast(Converter, get_binding_registry().get(binding_type))
