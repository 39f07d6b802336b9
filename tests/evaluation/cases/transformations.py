"""Data from one form to another, several artifacts at once."""

from __future__ import annotations

from tests.evaluation.case import Case, Output, left, node, python, said
from tests.evaluation.checkers import all_of, csv_rows, json_lines, json_value, number, only, text

CASES = (
    Case(
        "split-by-region",
        "medium",
        "Write one CSV file per region, named after it (north.csv, south.csv), each with the header"
        " item,amount and its rows in their order:\nregion,item,amount\nnorth,tea,3\nsouth,cake,4\n"
        "north,juice,2\n",
        python("""\
import csv, io, os
data = "region,item,amount\\nnorth,tea,3\\nsouth,cake,4\\nnorth,juice,2\\n"
regions = {}
for row in csv.DictReader(io.StringIO(data)):
    regions.setdefault(row["region"], []).append([row["item"], row["amount"]])
for region, rows in regions.items():
    with open(os.path.join(os.environ["OUT_DIR"], f"{region}.csv"), "w", newline="") as file:
        csv.writer(file).writerows([["item", "amount"], *rows])
"""),
        all_of(
            only("north.csv", "south.csv"),
            csv_rows(["item", "amount"], ["tea", "3"], ["juice", "2"], name="north.csv"),
            csv_rows(["item", "amount"], ["cake", "4"], name="south.csv"),
        ),
        left(
            {"north.csv": "item,amount\ntea,3\n", "south.csv": "item,amount\ncake,4\n"},
            {"north.csv": "tea,3\njuice,2\n", "south.csv": "cake,4\n"},
            {"north.csv": "item,amount\ntea,3\njuice,2\n"},
        ),
    ),
    Case(
        "json-to-csv",
        "easy",
        "Convert to CSV with the columns id, name and mail, empty where something is missing: "
        '[{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bo", "mail": "bo@example.org"}]',
        python("""\
import csv, sys
people = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bo", "mail": "bo@example.org"}]
writer = csv.DictWriter(sys.stdout, ["id", "name", "mail"])
writer.writeheader()
writer.writerows(people)
"""),
        csv_rows(["id", "name", "mail"], ["1", "Ann", ""], ["2", "Bo", "bo@example.org"]),
        said(
            "id,name,mail\n1,Ann,None\n2,Bo,bo@example.org",
            "id,name,mail\n1,Ann\n2,Bo,bo@example.org",
            "id,name\n1,Ann\n2,Bo",
        ),
    ),
    Case(
        "csv-to-json-lines",
        "easy",
        "Convert this CSV to JSON lines with numbers as numbers:\nname,age\nAnn,31\nBo,7\n",
        node("""\
const [header, ...rows] = "name,age\\nAnn,31\\nBo,7".split("\\n").map((line) => line.split(","));
for (const [name, age] of rows)
  console.log(JSON.stringify({[header[0]]: name, [header[1]]: Number(age)}));
"""),
        json_lines({"name": "Ann", "age": 31}, {"name": "Bo", "age": 7}),
        said(
            '{"name": "Ann", "age": "31"}\n{"name": "Bo", "age": "7"}',
            '[{"name": "Ann", "age": 31}, {"name": "Bo", "age": 7}]',
            '{"name": "Ann", "age": 31}',
        ),
    ),
    Case(
        "join",
        "medium",
        "Join orders with customers and print CSV with the columns order,customer,total, leaving "
        "out orders without a known customer. Customers: 1 Ann, 2 Bo. Orders (id, customer id, "
        "total): 10 1 99.5, 11 3 20, 12 2 5.25, 13 1 7. Keep the order of the orders.",
        python("""\
customers = {1: "Ann", 2: "Bo"}
print("order,customer,total")
for order, customer, total in [(10, 1, "99.5"), (11, 3, "20"), (12, 2, "5.25"), (13, 1, "7")]:
    if customer in customers:
        print(order, customers[customer], total, sep=",")
"""),
        csv_rows(
            ["order", "customer", "total"],
            *(["10", "Ann", "99.5"], ["12", "Bo", "5.25"], ["13", "Ann", "7"]),
        ),
        said(
            "order,customer,total\n10,Ann,99.5\n11,,20\n12,Bo,5.25\n13,Ann,7",
            "order,customer,total\n10,Ann,99.5\n12,Bo,5.25",
        ),
    ),
    Case(
        "pivot",
        "hard",
        "Pivot these readings into CSV with one row per day and one column per sensor, in the order"
        " day,a,b, with empty cells where there is no reading; days ascending: (2025-01-02, a, 5), "
        "(2025-01-01, a, 3), (2025-01-01, b, 4), (2025-01-03, b, 6)",
        python("""\
readings = [("2025-01-02", "a", 5), ("2025-01-01", "a", 3), ("2025-01-01", "b", 4),
            ("2025-01-03", "b", 6)]
days = {}
for day, sensor, value in readings:
    days.setdefault(day, {})[sensor] = value
print("day,a,b")
for day in sorted(days):
    print(day, days[day].get("a", ""), days[day].get("b", ""), sep=",")
"""),
        csv_rows(
            ["day", "a", "b"],
            *(["2025-01-01", "3", "4"], ["2025-01-02", "5", ""], ["2025-01-03", "", "6"]),
        ),
        said(
            "day,a,b\n2025-01-02,5,\n2025-01-01,3,4\n2025-01-03,,6",
            "day,a,b\n2025-01-01,3,4\n2025-01-02,5,0\n2025-01-03,0,6",
        ),
    ),
    Case(
        "phone-numbers",
        "medium",
        "Bring these US phone numbers into the form +1-555-123-4567, one per line: (555) 123-4567, "
        "555.987.6543, 1 555 222 3333, +15554445555",
        python("""\
import re
for number in ("(555) 123-4567", "555.987.6543", "1 555 222 3333", "+15554445555"):
    digits = re.sub(r"\\D", "", number)[-10:]
    print(f"+1-{digits[:3]}-{digits[3:6]}-{digits[6:]}")
"""),
        text("+1-555-123-4567\n+1-555-987-6543\n+1-555-222-3333\n+1-555-444-5555"),
        said(
            "+1-555-123-4567\n+1-555-987-6543\n+1-155-522-2333\n+1-155-544-4555",
            "555-123-4567\n555-987-6543\n555-222-3333\n555-444-5555",
        ),
    ),
    Case(
        "invoice",
        "medium",
        "Make an invoice of 3 pens at 1.20, 2 pads at 4.50 and 1 bag at 19.99: items.csv with the "
        "columns item,amount,price,total (prices and totals with two decimals), and total.json with"
        " net, tax (20 %) and gross as numbers, rounded to two decimals. Print the gross total.",
        python("""\
import csv, json, os
from decimal import Decimal
out = os.environ["OUT_DIR"]
net = Decimal(0)
with open(os.path.join(out, "items.csv"), "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["item", "amount", "price", "total"])
    for item, amount, price in [("pens", 3, "1.20"), ("pads", 2, "4.50"), ("bag", 1, "19.99")]:
        writer.writerow([item, amount, price, amount * Decimal(price)])
        net += amount * Decimal(price)
tax = (net * Decimal("0.2")).quantize(Decimal("0.01"))
with open(os.path.join(out, "total.json"), "w") as file:
    json.dump({"net": float(net), "tax": float(tax), "gross": float(net + tax)}, file)
print(net + tax)
"""),
        all_of(
            number(39.11),
            json_value({"net": 32.59, "tax": 6.52, "gross": 39.11}, "total.json"),
            csv_rows(
                ["item", "amount", "price", "total"],
                ["pens", "3", "1.20", "3.60"],
                ["pads", "2", "4.50", "9.00"],
                ["bag", "1", "19.99", "19.99"],
                name="items.csv",
            ),
        ),
        (
            Output("39.11"),
            Output("39.11", {"total.json": b'{"net": 32.59, "tax": 6.518, "gross": 39.108}'}),
            Output("39.11", {"total.json": b'{"net": 32.59, "tax": 6.52, "gross": 39.11}'}),
            Output("32.59", {"total.json": b'{"net": 32.59, "tax": 6.52, "gross": 39.11}'}),
        ),
    ),
    Case(
        "last-one-wins",
        "medium",
        "These updates came in order: ann=1, bob=2, ann=3, cy=4, bob=5. Keep the latest of each "
        "name, in the order in which the names first appeared, as 'name=value' lines in latest.txt,"
        " and the number of updates that were overtaken in overtaken.txt.",
        node("""\
const fs = require("fs"), path = require("path");
const updates = ["ann=1", "bob=2", "ann=3", "cy=4", "bob=5"];
const latest = new Map(updates.map((update) => update.split("=")));
const write = (name, text) => fs.writeFileSync(path.join(process.env.OUT_DIR, name), text + "\\n");
write("latest.txt", [...latest].map((entry) => entry.join("=")).join("\\n"));
write("overtaken.txt", String(updates.length - latest.size));
"""),
        all_of(text("ann=3\nbob=5\ncy=4", "latest.txt"), text("2", "overtaken.txt")),
        left(
            {"latest.txt": "ann=1\nbob=2\ncy=4", "overtaken.txt": "2"},
            {"latest.txt": "ann=3\ncy=4\nbob=5", "overtaken.txt": "2"},
            {"latest.txt": "ann=3\nbob=5\ncy=4", "overtaken.txt": "3"},
        ),
    ),
)
