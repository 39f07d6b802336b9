"""The routes of the application, what each takes, and the answer where there is none.

Each HTTP function declares its route here, so one place refuses what it does not know: on Azure and
on one machine alike, because neither host does. A host joins what is sent twice by a comma and
answers another method with an empty 404 (Azure/azure-functions-host#10098).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from functions.problems import Problem, invalid_parameter, invalid_request

#: What the host puts before every template (host.json, ``routePrefix``).
PREFIX = "/api/"

_MAX_PARAMETERS = 32
_SHOWN_CHARACTERS = 64

Method = Literal["GET", "POST", "PUT"]


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one HTTP function.

    Attributes:
        name: of the function; the host tries functions in the order of their names.
        method: that it answers; with GET also HEAD (RFC 9110, section 9.1).
        template: of its path, below `PREFIX`.
        query: names of the query parameters that it takes.
        body: whether it takes one.
    """

    name: str
    method: Method
    template: str
    query: Collection[str] = ()
    body: bool = False
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r"/\{\*\w+\}", "(?:/.*)?", self.template)
        pattern = re.sub(r"\{\w+\}", "[^/]+", pattern)
        object.__setattr__(self, "_pattern", re.compile(pattern, re.IGNORECASE))

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods that it answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    def fits(self, path: str) -> bool:
        """Whether ``path``, below `PREFIX` and without a final slash, is one of its own."""
        return self._pattern.fullmatch(path) is not None

    def read_query(self, url: str) -> dict[str, str]:
        """The query parameters of a request's address, each of them known and given once.

        Raises:
            Problem: 400, any of them is not, or has no value, or is not UTF-8.
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


#: Every route of the application, by the name of its function.
ROUTES: dict[str, Route] = {}


def declare(route: Route) -> None:
    """Make a route known.

    Raises:
        ValueError: another function has the name.
    """
    if ROUTES.setdefault(route.name, route) is not route:
        raise ValueError(f"two functions have the name {route.name}")


def nothing_at(method: str, path: str) -> Problem:
    """The problem of a request that no function answers: 405 with ``Allow``, else 404.

    Args:
        method: of the request.
        path: of the request, below `PREFIX`.
    """
    shown = (PREFIX + path)[:_SHOWN_CHARACTERS]
    return wrong_method(method, path) or Problem(
        404, "not-found", f"There is nothing at {shown!r}; see docs/http-api.md."
    )


def wrong_method(method: str, path: str) -> Problem | None:
    """The problem of a path that is answered with other methods; None where it is with this."""
    path = path.strip("/")
    # A path that is named as a whole is that, and not a value of a parameter.
    routes = [route for route in ROUTES.values() if route.template == path.lower()]
    routes = routes or [route for route in ROUTES.values() if route.fits(path)]
    allowed = sorted({each for route in routes for each in route.methods})
    if not allowed or method in allowed:
        return None
    return Problem(
        405,
        "method-not-allowed",
        f"{method[:_SHOWN_CHARACTERS]} is not a method here; use {' or '.join(allowed)}.",
        headers={"Allow": ", ".join(allowed)},
    )
