"""Every HTTP function has a declared route, and requests that fit none are answered."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import function_app  # noqa: F401 declares the routes
from functions.problems import Problem
from functions.routes import ROUTES, Route, declare, nothing_at, wrong_method
from infra.local.stack.config import ROOT

_LIST = """
import json, function_app
found = []
for function in function_app.app.get_functions():
    trigger = json.loads(function.get_raw_bindings()[0])
    if trigger["type"] == "httpTrigger":
        found.append([function.get_function_name(), trigger["route"], trigger.get("methods")])
from functions.routes import ROUTES
declared = [[each.name, each.template, list(each.methods)] for each in ROUTES.values()]
print(json.dumps({"found": found, "declared": declared}))
"""


def test_every_http_function_has_a_declared_route_and_what_is_left_comes_last() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIST], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = json.loads(done.stdout)
    found = sorted(listed["found"])
    assert found[-1] == ["unrouted", "{*path}", None]  # by name, as the host tries them
    assert found[:-1] == sorted(listed["declared"])
    assert len(found) > 20


ROUTE = Route("one", "GET", "things/{id}", query=("limit", "cursor"))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limt=5", "limt: is not a query parameter here; there are: cursor, limit"),
        ("Limit=5", "Limit: is not"),
        ("limit=5&x", "x: is not"),
        ("=5", ": is not"),
        ("limit=5&limit=5", "limit: is given more than once"),
        ("limit=5&%6Cimit=5", "limit: is given more than once"),
        ("limit=", "limit: is empty"),
        ("limit", "limit: is empty"),
        ("cursor=%ff", "UTF-8"),
        ("&".join(["limit=5"] * 2000), "more than 32"),
        ("y" * 30_000 + "=1", "is not a query parameter"),
    ],
)
def test_query_parameters_are_known_and_given_once(query: str, said: str) -> None:
    with pytest.raises(Problem) as refused:
        ROUTE.read_query(f"http://[/api/things/1?{query}")
    assert refused.value.status == 400
    assert said in refused.value.detail
    assert len(refused.value.detail) < 300


def test_query_parameters_are_decoded() -> None:
    assert ROUTE.read_query("http://x/api/things/1?cursor=a%2Bb+c%C3%A9&limit=5") == {
        "cursor": "a+b cé",
        "limit": "5",
    }
    assert ROUTE.read_query("http://x/api/things/1?") == {}


def test_a_name_is_given_to_one_function() -> None:
    with pytest.raises(ValueError, match="get_intent"):
        declare(Route("get_intent", "GET", "elsewhere"))


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "intents", "GET, POST"),
        ("OPTIONS", "INTENTS/", "GET, POST"),
        ("GET", "intents/search", "POST"),
        ("DELETE", "intents/search", "POST"),
        ("HEAD", "intents", "GET, POST"),
        ("DELETE", "intents/x", "GET"),
        ("POST", "intents/x/artifacts/a/b/c", "GET, HEAD"),
        ("GET", "intents/x/cancel", "POST"),
        ("HEAD", "operations/intents/x/kill", "POST"),
        ("POST", "sandbox/runs/x/artifacts/y", "PUT"),
        ("x" * 9000, "health", "GET"),
    ],
)
def test_another_method_is_told_which_there_are(method: str, path: str, allow: str) -> None:
    problem = nothing_at(method, path)
    assert (problem.status, problem.headers["Allow"]) == (405, allow)
    assert len(problem.detail) < 200


@pytest.mark.parametrize("path", ["", "nosuch", "intents/a/b", "health/x", "x" * 9000])
def test_another_path_is_not_found(path: str) -> None:
    problem = nothing_at("GET", path)
    assert (problem.status, problem.name) == (404, "not-found")
    assert len(problem.detail) < 250


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "at '/api'; there are, among others, /api/health, /api/intents, /api/intents/{id}."),
        ("nope/", "at '/api/nope'; there are, among others, /api/health, /api/intents, "),
        ("intent", "there are, among others, /api/intents, "),
        ("intents/7f6f9d1e-5a0b-4b3c-9a51-0c6f3c1f2ab4/artifact", "/api/intents/{id}/artifacts, "),
        ("Operations/doctors", "there are, among others, /api/operations/doctor, "),
        ("sandbox", "there are, among others, /api/"),
    ],
)
def test_another_path_is_told_the_nearest_routes(path: str, says: str) -> None:
    detail = nothing_at("GET", path).detail
    assert says in detail
    assert "docs/" not in detail
    assert "/api/sandbox/" not in detail


def test_a_method_that_is_taken_is_not_wrong() -> None:
    for route in ROUTES.values():
        for method in route.methods:
            assert wrong_method(method, route.template.replace("{*rest}", "x")) is None
