"""Arithmetic and statistics."""

from __future__ import annotations

from tests.evaluation.case import Case, node, python, ruby, said
from tests.evaluation.checkers import json_value, number, numbers, text

CASES = (
    Case(
        "multiples",
        "easy",
        "What is the sum of all positive whole numbers below 1000 that are multiples of 3 or 5?",
        python("print(sum(n for n in range(1000) if n % 3 == 0 or n % 5 == 0))"),
        number(233168, 1000, 3, 5),
        said("234168", "33165", "266333"),
    ),
    Case(
        "mean-median-stdev",
        "medium",
        "Mean, median and sample standard deviation of 4, 8, 15, 16, 23, 42, please: a JSON "
        "object with mean, median and stdev, rounded to two decimals.",
        python("""\
import json, statistics
data = [4, 8, 15, 16, 23, 42]
print(json.dumps({
    "mean": round(statistics.mean(data), 2),
    "median": statistics.median(data),
    "stdev": round(statistics.stdev(data), 2),
}))
"""),
        json_value({"mean": 18, "median": 15.5, "stdev": 13.49}),
        said(
            '{"mean": 18.0, "median": 15.5, "stdev": 12.32}',
            '{"mean": 18.0, "median": 15, "stdev": 13.49}',
        ),
    ),
    Case(
        "compound-interest",
        "medium",
        "I put 2500 euros on an account with 4.2 % a year, compounded monthly. How much is it "
        "after 7 years, to the cent?",
        python("print(f'{2500 * (1 + 0.042 / 12) ** 84:.2f}')"),
        number(3352.74, 2500, 4.2, 7, within=0.015),
        said("3334.37", "3235.00", "852.74"),
    ),
    Case(
        "gcd-lcm",
        "easy",
        "print the greatest common divisor and the least common multiple of 1071 and 462, in this "
        "order, and nothing else",
        python("import math\nprint(math.gcd(1071, 462), math.lcm(1071, 462))\n"),
        numbers(21, 23562),
        said("23562 21", "21 494802", "21"),
    ),
    Case(
        "primes",
        "easy",
        "How many primes are there below 10000?",
        node("""\
let count = 0;
for (let n = 2; n < 10000; n++) {
  let prime = true;
  for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
  if (prime) count++;
}
console.log(count);
"""),
        number(1229, 10000),
        said("1228", "1230", "9973"),
    ),
    Case(
        "digits-of-a-factorial",
        "medium",
        "sum of the decimal digits of 100 factorial",
        node("""\
let product = 1n;
for (let n = 2n; n <= 100n; n++) product *= n;
console.log([...product.toString()].reduce((sum, digit) => sum + Number(digit), 0));
"""),
        number(648, 100),
        said("683", "158"),
    ),
    Case(
        "regression",
        "medium",
        "Fit a line by least squares through (1,2), (2,3), (3,5), (4,4), (5,6) and print slope and "
        "intercept on one line.",
        python("""\
points = [(1, 2), (2, 3), (3, 5), (4, 4), (5, 6)]
x = sum(p[0] for p in points) / len(points)
y = sum(p[1] for p in points) / len(points)
slope = sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
print(round(slope, 6), round(y - slope * x, 6))
"""),
        numbers(0.9, 1.3, within=1e-6),
        said("1.3 0.9", "1.0 1.0", "0.9"),
    ),
    Case(
        "percentile",
        "hard",
        "What is the 90th percentile by the nearest-rank method of 12, 5, 22, 30, 7, 36, 14, 42, "
        "15, 53, 25? Print the number.",
        python("""\
import math
data = sorted([12, 5, 22, 30, 7, 36, 14, 42, 15, 53, 25])
print(data[math.ceil(0.9 * len(data)) - 1])
"""),
        number(42, 90),
        said("53", "36", "41.4"),
    ),
    Case(
        "split-the-bill",
        "medium",
        "Split 100.00 dollars among three people so that the shares add up to exactly 100.00 and "
        "differ by one cent at most. Print the shares with two decimals, one per line, largest "
        "first.",
        python("""\
cents, people = 10000, 3
for person in range(people):
    share = cents // people + (person < cents % people)
    print(f"{share // 100}.{share % 100:02d}")
"""),
        text("33.34\n33.33\n33.33"),
        said("33.33\n33.33\n33.33", "33.33\n33.33\n33.34", "33.34\n33.34\n33.34"),
    ),
    Case(
        "matrix-product",
        "easy",
        "Multiply the matrices [[1,2],[3,4]] and [[5,6],[7,8]] and print the product as JSON.",
        python("""\
a, b = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
print([[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a])
"""),
        json_value([[19, 22], [43, 50]]),
        said("[[5, 12], [21, 32]]", "[[23, 34], [31, 46]]", "[19, 22, 43, 50]"),
    ),
    Case(
        "bases",
        "easy",
        "3735928559 in hexadecimal (lower case, no prefix) and binary 101101 in decimal, each on "
        "its own line",
        ruby("puts 3735928559.to_s(16)\nputs '101101'.to_i(2)\n"),
        text("deadbeef\n45"),
        said("0xdeadbeef\n45", "deadbeef\n101101", "DEADBEEF\n45"),
    ),
    Case(
        "moving-average",
        "easy",
        "3-day moving average of 12, 18, 24, 15, 21, 30: print the four averages on one line",
        python("""\
data = [12, 18, 24, 15, 21, 30]
print(*(sum(data[i:i + 3]) / 3 for i in range(len(data) - 2)))
"""),
        numbers(18, 19, 20, 22, within=1e-9),
        said("12 15 18 19 20 22", "18 19 20", "15 21 19.5 18 25.5"),
    ),
    Case(
        "large-fibonacci",
        "hard",
        "In JavaScript, print the 90th Fibonacci number exactly, counting F(1) = F(2) = 1.",
        node("""\
let [a, b] = [0n, 1n];
for (let n = 0; n < 90; n++) [a, b] = [b, a + b];
console.log(a.toString());
"""),
        number(2880067194370816120, 90),
        said("2880067194370816000", "4660046610375530309", "1779979416004714189"),
    ),
    Case(
        "fahrenheit",
        "easy",
        "Convert 0, 20, 37 and 100 degrees Celsius to Fahrenheit and print them as a JSON list of "
        "numbers.",
        node("console.log(JSON.stringify([0, 20, 37, 100].map((c) => (c * 9) / 5 + 32)));\n"),
        json_value([32, 68, 98.6, 212]),
        said("[32, 68, 98, 212]", "[-17.8, -6.7, 2.8, 37.8]"),
    ),
)
