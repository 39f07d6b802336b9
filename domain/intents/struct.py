"""Immutable values with one definition and two readers.

Pydantic checks what comes from outside, field by field, by the constraints in the annotations.
msgspec reads what was checked back from the log: types and names only, several times as fast.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, TypeVar, get_type_hints

import msgspec
from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema, to_json

from domain.contracts.strict_json import null_is, read_as
from domain.contracts.validation import no_other_fields

#: Validation context for what was recorded elsewhere, such as an imported log: its sizes were
#: checked when it was accepted, and the bounds may have changed since.
RECORDED = {"recorded": True}

T = TypeVar("T")


class MayBeLeftOut:
    """Marks a field that validators fill in: they get None where it is missing."""


class Value(msgspec.Struct, frozen=True):
    """Base of all values: equal if their fields are, and tolerant of fields from the future.

    The constructor checks nothing; what comes from outside goes through `checked`.
    """

    def fits_together(self) -> None:
        """Raise ValueError unless the fields, each valid by itself, fit together."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Called by pydantic: reads an object with the fields, then makes the instance."""
        hints = get_type_hints(cls, include_extras=True)
        of_clients = cls.__struct_config__.forbid_unknown_fields
        known = {
            field.name: _field(field, hints[field.name], handler, nullable=of_clients)
            for field in msgspec.structs.fields(cls)
        }
        fields = core_schema.typed_dict_schema(
            known,
            extra_behavior="allow" if of_clients else "ignore",
            extras_schema=no_other_fields(known) if of_clients else None,
        )

        def whole(given: dict[str, Any], info: ValidationInfo) -> Value:
            value = cls(**given)
            if info.context is not RECORDED:
                value.fits_together()
            return value

        return core_schema.with_info_after_validator_function(whole, fields)


def _field(
    field: msgspec.structs.FieldInfo,
    hint: Any,  # noqa: ANN401 any annotation
    handler: GetCoreSchemaHandler,
    *,
    nullable: bool,
) -> core_schema.TypedDictField:
    schema = handler.generate_schema(hint)
    if nullable and not field.required and schema["type"] != "nullable":
        schema = null_is(schema, partial(_default, field))
    if MayBeLeftOut in getattr(hint, "__metadata__", ()):
        schema = core_schema.with_default_schema(schema, default=None, validate_default=True)
    elif field.default is not msgspec.NODEFAULT:
        schema = core_schema.with_default_schema(schema, default=field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        schema = core_schema.with_default_schema(schema, default_factory=field.default_factory)
    return core_schema.typed_dict_field(schema, required=schema["type"] != "default")


def checked(type_: type[T], given: object, *, ignore_unknown: bool = False) -> T:
    """What came from outside as JSON's types, checked and converted to ``type_``.

    Args:
        type_: anything pydantic can check.
        given: the data.
        ignore_unknown: see `domain.contracts.strict_json.read_as`.

    Raises:
        pydantic.ValidationError: names each field that is wrong.
    """
    return read_as(type_, to_json(given), ignore_unknown=ignore_unknown)


def plain(value: Value) -> dict[str, Any]:
    """``value`` as JSON's types; fields that are None are left out, at any depth."""
    return _without_none(msgspec.to_builtins(value))


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    # By type, not isinstance: msgspec makes these exact types and no others.
    return {
        key: _without_none(item)
        if type(item) is dict
        else [_without_none(each) if type(each) is dict else each for each in item]
        if type(item) in _LISTS
        else item
        for key, item in fields.items()
        if item is not None
    }


_LISTS = (tuple, list)


def without_defaults(value: Any) -> Any:  # noqa: ANN401 anything JSON
    """``value`` as JSON's types; fields with their default values are left out."""
    if isinstance(value, msgspec.Struct):
        return {
            field.name: without_defaults(item)
            for field in _fields_of(type(value))
            if (item := getattr(value, field.name)) != _default(field)
        }
    if isinstance(value, tuple):
        return [without_defaults(item) for item in value]
    return msgspec.to_builtins(value)


@cache
def _fields_of(type_: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(type_)  # reads the annotations anew each time


def _default(field: msgspec.structs.FieldInfo) -> object:
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()
