"""Work of several stages, whose files go from one program to the next."""

from __future__ import annotations

from tests.evaluation.case import Case, Step, left, said
from tests.evaluation.cases.files import zipped
from tests.evaluation.checkers import all_of, archive, csv_rows, json_value, number

CASES = (
    Case(
        "generate-then-sum",
        "easy",
        "In one step write the squares of 1 to 20 to a file, one per line; in a second step that "
        "reads this file add up those that are even and print the sum.",
        (
            Step(
                "squares",
                "python",
                """\
import os
with open(os.path.join(os.environ["OUT_DIR"], "squares.txt"), "w") as file:
    for n in range(1, 21):
        print(n * n, file=file)
""",
            ),
            Step(
                "sum",
                "python",
                """\
with open("inputs/squares/squares.txt") as file:
    print(sum(n for n in map(int, file) if n % 2 == 0))
""",
                needs=("squares",),
            ),
        ),
        number(1540, 1, 20),
        said("2870", "1330", "110"),
    ),
    Case(
        "two-sources",
        "hard",
        "One step writes prices.csv (item,price: tea,2 and cake,5), another, independent of it, "
        "writes sales.csv (item,amount: tea,10; cake,3; tea,1). A third reads both and saves "
        "revenue.csv with item,revenue, highest revenue first.",
        (
            Step(
                "prices",
                "shell",
                'printf "item,price\\ntea,2\\ncake,5\\n" > "$OUT_DIR/prices.csv"\n',
            ),
            Step(
                "sales",
                "shell",
                'printf "item,amount\\ntea,10\\ncake,3\\ntea,1\\n" > "$OUT_DIR/sales.csv"\n',
            ),
            Step(
                "revenue",
                "python",
                """\
import csv, os
from collections import Counter
with open("inputs/prices/prices.csv") as file:
    prices = {row["item"]: int(row["price"]) for row in csv.DictReader(file)}
revenue = Counter()
with open("inputs/sales/sales.csv") as file:
    for row in csv.DictReader(file):
        revenue[row["item"]] += int(row["amount"]) * prices[row["item"]]
with open(os.path.join(os.environ["OUT_DIR"], "revenue.csv"), "w", newline="") as file:
    csv.writer(file).writerows([("item", "revenue"), *revenue.most_common()])
""",
                needs=("prices", "sales"),
            ),
        ),
        csv_rows(["item", "revenue"], ["tea", "22"], ["cake", "15"], name="revenue.csv"),
        left(
            {"revenue.csv": "item,revenue\ncake,15\ntea,22\n"},
            {"revenue.csv": "item,revenue\ntea,20\ncake,15\n"},
        ),
    ),
    Case(
        "fan-out-fan-in",
        "hard",
        "Write the text 'the cat and the hat' to a file. From it make, independently of each other,"
        " words.txt with its distinct words in alphabetical order, one per line, and stats.txt with"
        " a line 'words N' and a line 'letters N' (all words counted, spaces not). At last pack "
        "these two files into result.zip.",
        (
            Step("text", "shell", "printf 'the cat and the hat' > \"$OUT_DIR/text.txt\"\n"),
            Step(
                "words",
                "shell",
                "tr ' ' '\\n' < inputs/text/text.txt | sort -u > \"$OUT_DIR/words.txt\"\n",
                needs=("text",),
            ),
            Step(
                "stats",
                "node",
                """\
const fs = require("fs");
const words = fs.readFileSync("inputs/text/text.txt", "utf8").split(" ");
const stats = `words ${words.length}\\nletters ${words.join("").length}\\n`;
fs.writeFileSync(process.env.OUT_DIR + "/stats.txt", stats);
""",
                needs=("text",),
            ),
            Step(
                "pack",
                "python",
                """\
import os, zipfile
with zipfile.ZipFile(os.path.join(os.environ["OUT_DIR"], "result.zip"), "w") as packed:
    packed.write("inputs/words/words.txt", "words.txt")
    packed.write("inputs/stats/stats.txt", "stats.txt")
""",
                needs=("words", "stats"),
            ),
        ),
        archive(
            "result.zip",
            {"words.txt": "and\ncat\nhat\nthe", "stats.txt": "words 5\nletters 15"},
        ),
        left(
            {
                "result.zip": zipped(
                    {"words.txt": "the\ncat\nand\nhat", "stats.txt": "words 5\nletters 15"}
                )
            },
            {"result.zip": zipped({"words.txt": "and\ncat\nhat\nthe"})},
        ),
    ),
    Case(
        "primes-then-gaps",
        "medium",
        "First save the primes up to 50 to primes.txt, one per line. Then, reading that file, save "
        "gaps.json with the largest gap between neighbours as 'largest' and the two primes around "
        "its first occurrence as 'between', and print how many primes there were.",
        (
            Step(
                "primes",
                "python",
                """\
import os
primes = [n for n in range(2, 51) if all(n % d for d in range(2, n))]
with open(os.path.join(os.environ["OUT_DIR"], "primes.txt"), "w") as file:
    print(*primes, sep="\\n", file=file)
""",
            ),
            Step(
                "gaps",
                "node",
                """\
const fs = require("fs");
const primes = fs.readFileSync("inputs/primes/primes.txt", "utf8").trim().split("\\n").map(Number);
let best = {largest: 0};
for (let i = 1; i < primes.length; i++)
  if (primes[i] - primes[i - 1] > best.largest)
    best = {largest: primes[i] - primes[i - 1], between: [primes[i - 1], primes[i]]};
fs.writeFileSync(process.env.OUT_DIR + "/gaps.json", JSON.stringify(best));
console.log(primes.length);
""",
                needs=("primes",),
            ),
        ),
        all_of(number(15), json_value({"largest": 6, "between": [23, 29]}, "gaps.json")),
        left(
            {"gaps.json": '{"largest": 6, "between": [31, 37]}'},
            {"gaps.json": '{"largest": 4, "between": [7, 11]}'},
        )
        + said("15"),
    ),
)
