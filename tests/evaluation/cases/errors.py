"""What is missing, broken or out of range, and what to say then."""

from __future__ import annotations

from tests.evaluation.case import Case, node, python, said
from tests.evaluation.checkers import json_value, matches, numbers, text

CASES = (
    Case(
        "division-by-zero",
        "easy",
        "Divide 10 by each of 4, 0 and -5 and print the results one per line, 'undefined' where "
        "there is none.",
        python("""\
for divisor in (4, 0, -5):
    try:
        print(10 / divisor)
    except ZeroDivisionError:
        print("undefined")
"""),
        matches(r"2\.50?\nundefined\n-2(?:\.0+)?"),
        said("2.5\nInfinity\n-2.0", "2.5\n-2.0", "2.5\nundefined\nundefined"),
    ),
    Case(
        "bad-integers",
        "medium",
        "Add up the whole numbers among '12', '7', 'x', '3.5', '-4', '' and print the sum and how "
        "many of the six were no whole numbers, on one line.",
        python("""\
total = bad = 0
for text in ("12", "7", "x", "3.5", "-4", ""):
    try:
        total += int(text)
    except ValueError:
        bad += 1
print(total, bad)
"""),
        numbers(15, 3),
        said("18.5 2", "15 2", "19 3"),
    ),
    Case(
        "valid-json",
        "easy",
        """Which of these are valid JSON: {"a": 1}, {'a': 1}, [1, 2,], null? Print valid or """
        "invalid for each, one per line.",
        node("""\
for (const text of ['{"a": 1}', "{'a': 1}", "[1, 2,]", "null"]) {
  try { JSON.parse(text); console.log("valid"); } catch { console.log("invalid"); }
}
"""),
        text("valid\ninvalid\ninvalid\nvalid"),
        said("valid\nvalid\ninvalid\nvalid", "valid\ninvalid\ninvalid\ninvalid"),
    ),
    Case(
        "real-dates",
        "medium",
        "Which of 2023-02-29, 2024-02-29, 2024-13-01, 2024-04-31 and 2024-12-31 are real dates? "
        "Print only those, one per line.",
        python("""\
from datetime import date
for text in ("2023-02-29", "2024-02-29", "2024-13-01", "2024-04-31", "2024-12-31"):
    try:
        print(date.fromisoformat(text))
    except ValueError:
        pass
"""),
        text("2024-02-29\n2024-12-31"),
        said("2023-02-29\n2024-02-29\n2024-12-31", "2024-12-31", "2024-02-29\n2024-04-31"),
    ),
    Case(
        "missing-file",
        "easy",
        "Try to read config.json, which does not exist. Print 'using defaults' and then the "
        'default configuration {"port": 8080, "debug": false} as JSON on the next line.',
        python("""\
import json
try:
    with open("config.json") as file:
        config = json.load(file)
except FileNotFoundError:
    print("using defaults")
    config = {"port": 8080, "debug": False}
print(json.dumps(config))
"""),
        matches(r'using defaults\n\{\s*"port":\s*8080,\s*"debug":\s*false\s*\}'),
        said('{"port": 8080, "debug": false}', "using defaults\n{'port': 8080, 'debug': False}"),
    ),
    Case(
        "retries",
        "medium",
        "Write a function that raises an error on its first two calls and returns 'ok' on the "
        "third, call it with up to 5 attempts, and print a JSON object with attempts and result.",
        python("""\
import json
calls = 0

def flaky():
    global calls
    calls += 1
    if calls < 3:
        raise ConnectionError("not yet")
    return "ok"

for attempt in range(1, 6):
    try:
        print(json.dumps({"attempts": attempt, "result": flaky()}))
        break
    except ConnectionError:
        continue
"""),
        json_value({"attempts": 3, "result": "ok"}),
        said('{"attempts": 2, "result": "ok"}', '{"attempts": 5, "result": null}'),
    ),
)
