"""Reading CSV, JSON, XML, logs and the like."""

from __future__ import annotations

from tests.evaluation.case import Case, node, python, ruby, said, shell
from tests.evaluation.checkers import any_order, csv_rows, json_value, number, text

CASES = (
    Case(
        "csv-group-sum",
        "easy",
        "Sum the amounts by region of this CSV and print 'region total' lines, sorted by region:\n"
        "region,amount\nnorth,120\nsouth,80\nnorth,45\neast,60\nsouth,15\n",
        python("""\
import csv, io
from collections import Counter
data = "region,amount\\nnorth,120\\nsouth,80\\nnorth,45\\neast,60\\nsouth,15\\n"
totals = Counter()
for row in csv.DictReader(io.StringIO(data)):
    totals[row["region"]] += int(row["amount"])
for region in sorted(totals):
    print(region, totals[region])
"""),
        text("east 60\nnorth 165\nsouth 95"),
        said("north 165\nsouth 95\neast 60", "east 60\nnorth 120\nsouth 80"),
    ),
    Case(
        "quoted-csv",
        "hard",
        'Turn this CSV into a JSON list of objects: name,quote\n"Smith, J.","He said ""hi"""\n'
        'Li,"two\nlines"\n',
        python("""\
import csv, io, json
data = 'name,quote\\n"Smith, J.","He said ""hi\"""\\nLi,"two\\nlines"\\n'
print(json.dumps(list(csv.DictReader(io.StringIO(data, newline="")))))
"""),
        json_value(
            [{"name": "Smith, J.", "quote": 'He said "hi"'}, {"name": "Li", "quote": "two\nlines"}]
        ),
        said(
            '[{"name": "Smith", "quote": "J."}, {"name": "Li", "quote": "two\\nlines"}]',
            '[{"name": "Smith, J.", "quote": "He said \\"\\"hi\\"\\""}, '
            '{"name": "Li", "quote": "two\\nlines"}]',
        ),
    ),
    Case(
        "nested-json",
        "easy",
        'From {"users": [{"name": "Ann", "roles": ["admin", "dev"]}, {"name": "Bo", "roles": '
        '["dev"]}, {"name": "Cy", "roles": []}]} print the names of all users with the role dev, '
        "one per line.",
        node("""\
const data = {users: [{name: "Ann", roles: ["admin", "dev"]}, {name: "Bo", roles: ["dev"]},
                      {name: "Cy", roles: []}]};
for (const user of data.users) if (user.roles.includes("dev")) console.log(user.name);
"""),
        text("Ann\nBo"),
        said("Ann", "Ann\nBo\nCy", "Bo"),
    ),
    Case(
        "xml-prices",
        "medium",
        "List the titles of the books cheaper than 20, one per line in document order: <books>"
        "<book price='12.50'><title>Sea &amp; Sand</title></book><book price='20'><title>Twenty"
        "</title></book><book price='7'><title>Seven</title></book></books>",
        python("""\
from xml.etree import ElementTree
books = ElementTree.fromstring(
    "<books><book price='12.50'><title>Sea &amp; Sand</title></book><book price='20'>"
    "<title>Twenty</title></book><book price='7'><title>Seven</title></book></books>"
)
for book in books:
    if float(book.get("price")) < 20:
        print(book.findtext("title"))
"""),
        text("Sea & Sand\nSeven"),
        said("Sea &amp; Sand\nSeven", "Sea & Sand\nTwenty\nSeven", "Seven"),
    ),
    Case(
        "access-log",
        "medium",
        "How many requests of each status are in this access log? Print 'status count' lines, "
        "lowest status first.\n"
        '10.0.0.1 - - [01/Mar/2025:10:00:00] "GET / HTTP/1.1" 200 512\n'
        '10.0.0.2 - - [01/Mar/2025:10:00:01] "GET /404 HTTP/1.1" 404 200\n'
        '10.0.0.1 - - [01/Mar/2025:10:00:02] "POST /login HTTP/1.1" 302 0\n'
        '10.0.0.3 - - [01/Mar/2025:10:00:04] "GET /a HTTP/1.1" 200 404\n',
        shell("""\
awk '{print $(NF-1)}' <<'END' | sort | uniq -c | awk '{print $2, $1}'
10.0.0.1 - - [01/Mar/2025:10:00:00] "GET / HTTP/1.1" 200 512
10.0.0.2 - - [01/Mar/2025:10:00:01] "GET /404 HTTP/1.1" 404 200
10.0.0.1 - - [01/Mar/2025:10:00:02] "POST /login HTTP/1.1" 302 0
10.0.0.3 - - [01/Mar/2025:10:00:04] "GET /a HTTP/1.1" 200 404
END
"""),
        text("200 2\n302 1\n404 1"),
        said("200 2\n302 1\n404 2", "404 1\n302 1\n200 2", "2 200\n1 302\n1 404"),
    ),
    Case(
        "busiest-address",
        "easy",
        "Which address appears most often, and how often? Print 'address count'.\n"
        "10.0.0.7\n10.0.0.8\n10.0.0.7\n192.168.1.1\n10.0.0.8\n10.0.0.7\n",
        ruby("""\
seen = %w[10.0.0.7 10.0.0.8 10.0.0.7 192.168.1.1 10.0.0.8 10.0.0.7].tally
puts seen.max_by { |_, count| count }.join(" ")
"""),
        text("10.0.0.7 3"),
        said("10.0.0.8 2", "10.0.0.7", "3 10.0.0.7"),
    ),
    Case(
        "ini-to-json",
        "medium",
        "Convert this INI file to JSON: one object for each section, values as strings, comments "
        "dropped.\n[server]\nhost = example.org\nport=8080\n; old\n[paths]\nroot = /srv/www\n",
        python("""\
import configparser, json
parser = configparser.ConfigParser(interpolation=None)
parser.read_string('''[server]
host = example.org
port=8080
; old
[paths]
root = /srv/www
''')
print(json.dumps({name: dict(parser[name]) for name in parser.sections()}))
"""),
        json_value(
            {"server": {"host": "example.org", "port": "8080"}, "paths": {"root": "/srv/www"}}
        ),
        said(
            '{"server": {"host": "example.org", "port": 8080}, "paths": {"root": "/srv/www"}}',
            '{"host": "example.org", "port": "8080", "root": "/srv/www"}',
        ),
    ),
    Case(
        "query-string",
        "medium",
        "Decode the query string q=caf%C3%A9+noir&page=2&tag=a&tag=b into a JSON object; every "
        "value is a list of strings.",
        python("""\
import json, urllib.parse
print(json.dumps(urllib.parse.parse_qs("q=caf%C3%A9+noir&page=2&tag=a&tag=b")))
"""),
        json_value({"q": ["café noir"], "page": ["2"], "tag": ["a", "b"]}),
        said(
            '{"q": ["café+noir"], "page": ["2"], "tag": ["a", "b"]}',
            '{"q": "café noir", "page": "2", "tag": "b"}',
        ),
    ),
    Case(
        "markdown-to-csv",
        "medium",
        "Make CSV of this markdown table:\n| city | people |\n|---|---|\n| Wien | 2000000 |\n"
        "| Washington, D.C. | 690000 |\n",
        python("""\
import csv, sys
table = '''| city | people |
|---|---|
| Wien | 2000000 |
| Washington, D.C. | 690000 |'''
writer = csv.writer(sys.stdout, lineterminator="\\n")
for line in table.splitlines():
    if not set(line) <= set("|-"):
        writer.writerow(cell.strip() for cell in line.strip("|").split("|"))
"""),
        csv_rows(["city", "people"], ["Wien", "2000000"], ["Washington, D.C.", "690000"]),
        said(
            "city,people\nWien,2000000\nWashington, D.C.,690000",
            'city,people\n---,---\nWien,2000000\n"Washington, D.C.",690000',
        ),
    ),
    Case(
        "e-mail-addresses",
        "medium",
        "Find the e-mail addresses in: 'Write to ann.lee@example.org, or bob+news@mail.example.com;"
        " not to @nobody or x@y.' Domains need a dot. One per line, in any order.",
        python("""\
import re
text = ("Write to ann.lee@example.org, or bob+news@mail.example.com;"
        " not to @nobody or x@y.")
for found in re.findall(r"[\\w.+-]+@[\\w-]+(?:\\.[\\w-]+)+", text):
    print(found)
"""),
        any_order("ann.lee@example.org", "bob+news@mail.example.com"),
        said(
            "ann.lee@example.org\nnews@mail.example.com",
            "ann.lee@example.org\nbob+news@mail.example.com\nx@y.",
        ),
    ),
    Case(
        "slow-requests",
        "medium",
        "Each line is a request: 'id=1 ms=120', 'id=2 ms=1500', 'id=3 ms=80', 'id=4 ms=1000', "
        "'id=5 ms=2300'. What is the mean of ms over the requests that took more than 1000 ms?",
        node("""\
const lines = ["id=1 ms=120", "id=2 ms=1500", "id=3 ms=80", "id=4 ms=1000", "id=5 ms=2300"];
const slow = lines.map((line) => Number(line.match(/ms=(\\d+)/)[1])).filter((ms) => ms > 1000);
console.log(slow.reduce((sum, ms) => sum + ms, 0) / slow.length);
"""),
        number(1900, 1000),
        said("1600", "1000", "1500"),
    ),
    Case(
        "sql-having",
        "hard",
        "Load these orders into an SQL database and list the customers whose orders sum up to more "
        "than 100, with the sum, as 'customer sum', largest first: (ann, 60), (bob, 100), (ann, "
        "70), (cy, 30), (cy, 90), (bob, 0)",
        python("""\
import sqlite3
db = sqlite3.connect(":memory:")
db.execute("create table orders (customer text, amount int)")
db.executemany("insert into orders values (?, ?)", [
    ("ann", 60), ("bob", 100), ("ann", 70), ("cy", 30), ("cy", 90), ("bob", 0)])
for customer, total in db.execute(
    "select customer, sum(amount) s from orders group by customer having s > 100 order by s desc"
):
    print(customer, total)
"""),
        text("ann 130\ncy 120"),
        said("ann 130\ncy 120\nbob 100", "cy 120\nann 130", "ann 70"),
    ),
)
