"""What a route is; refuses unknown parameters, methods and paths.

Each HTTP function declares its route here, so unknown parameters and methods are refused in one
place, on Azure and on one machine alike: neither host does that. Hosts join parameters that are
sent twice with a comma, and answer other methods with an empty 404
(Azure/azure-functions-host#10098).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Literal
from urllib.parse import parse_qsl

from functions.problems import Problem, invalid_parameter, invalid_request

#: The host's prefix of every route (``routePrefix`` in host.json).
PREFIX = "/api/"

_MAX_PARAMETERS = 32
_SHOWN_CHARACTERS = 64

#: An id in a path, and how like a template a path must be to be taken for a slip of it.
_ID = re.compile(r"[0-9a-f-]{36}")
_LIKE = 0.5

Method = Literal["GET", "POST", "PUT"]


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one HTTP function.

    Attributes:
        name: the function's name; the host tries functions in the order of their names.
        method: its method.
        template: the template of its path, below `PREFIX`.
        query: the names of its query parameters.
        body: whether it takes a body.
        head: whether it takes HEAD as well, where that saves something: a download.
    """

    name: str
    method: Method
    template: str
    query: Collection[str] = ()
    body: bool = False
    head: bool = False
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r"/\{\*\w+\}", "(?:/.*)?", self.template)
        pattern = re.sub(r"\{\w+\}", "[^/]+", pattern)
        object.__setattr__(self, "_pattern", re.compile(pattern, re.IGNORECASE))

    @property
    def methods(self) -> tuple[str, ...]:
        """All its methods."""
        return (self.method, "HEAD") if self.head else (self.method,)

    def fits(self, path: str) -> bool:
        """Whether ``path``, below `PREFIX` and without a final slash, matches."""
        return self._pattern.fullmatch(path) is not None

    def read_query(self, url: str) -> dict[str, str]:
        """The query parameters in a request's URL.

        Raises:
            Problem: 400: a parameter is unknown, given twice, empty, or not UTF-8.
        """
        query = url.partition("?")[2]
        if not query:
            return {}
        found: dict[str, str] = {}
        for name, value in _fields(query):
            if name not in self.query:
                known = ", ".join(sorted(self.query)) or "none"
                raise invalid_parameter(
                    name[:_SHOWN_CHARACTERS], f"is not a query parameter here; there are: {known}"
                )
            if name in found:
                raise invalid_parameter(name, "is given more than once; give it once")
            if not value:
                raise invalid_parameter(name, "is empty; leave it out, or give it a value")
            found[name] = value
        return found


def _fields(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict"
        )
    except UnicodeDecodeError:
        raise invalid_request("query: must be percent-encoded UTF-8") from None
    except ValueError:
        raise invalid_request(f"query: has more than {_MAX_PARAMETERS} parameters") from None


#: Every route, by the name of its function.
ROUTES: dict[str, Route] = {}


def declare(route: Route) -> None:
    """Add a route.

    Raises:
        ValueError: another function has the same name.
    """
    if ROUTES.setdefault(route.name, route) is not route:
        raise ValueError(f"two functions have the name {route.name}")


def path_of(url: str) -> str:
    """The path of a request's URL, below `PREFIX`, which hosts compare without regard to case."""
    path = url.partition("?")[0]
    return path[path.lower().index(PREFIX) + len(PREFIX) :]


def nothing_at(method: str, path: str) -> Problem:
    """The problem of a request that no function answers: that of `wrong_method`, else a 404.

    Args:
        method: the request's method.
        path: the request's path, below `PREFIX`.
    """
    shown = (PREFIX + path).rstrip("/")[:_SHOWN_CHARACTERS]
    return wrong_method(method, path) or Problem(
        404,
        "not-found",
        f"There is nothing at {shown!r}; there are, among others, {_nearest(path)}.",
    )


def _nearest(path: str) -> str:
    """The three routes of clients whose templates are most like ``path``; else the shortest."""
    asked = _ID.sub("{id}", path[: 2 * _SHOWN_CHARACTERS].strip("/").lower())

    def unlike(template: str) -> tuple[float, int]:
        likeness = SequenceMatcher(None, template, asked).ratio()
        return (-likeness if likeness > _LIKE else 0.0, len(template))

    templates = {route.template.removesuffix("/{*rest}") for route in ROUTES.values()}
    shown = sorted((each for each in templates if not each.startswith("sandbox/")), key=unlike)
    return ", ".join(PREFIX + template for template in shown[:3])


def wrong_method(method: str, path: str) -> Problem | None:
    """A 405 with ``Allow`` if the path has routes, but none with this method; None otherwise."""
    path = path.strip("/")
    # A route without parameters takes precedence, as the host has it.
    routes = [route for route in ROUTES.values() if route.template == path.lower()]
    routes = routes or [route for route in ROUTES.values() if route.fits(path)]
    allowed = sorted({each for route in routes for each in route.methods})
    if not allowed or method in allowed:
        return None
    return Problem(
        405,
        "method-not-allowed",
        f"{method[:_SHOWN_CHARACTERS]} is not allowed here; use {' or '.join(allowed)}.",
        headers={"Allow": ", ".join(allowed)},
    )
