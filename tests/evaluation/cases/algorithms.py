"""Graphs, searching, dynamic programming and puzzles."""

from __future__ import annotations

from tests.evaluation.case import Case, node, python, said
from tests.evaluation.checkers import any_order, json_value, number, text

_SOLVED = (
    "534678912\n672195348\n198342567\n859761423\n426853791\n713924856\n961537284\n287419635\n"
    "345286179"
)

CASES = (
    Case(
        "shortest-path",
        "medium",
        "Roads with their lengths: A-B 7, A-C 9, A-F 14, B-C 10, B-D 15, C-D 11, C-F 2, D-E 6, "
        "E-F 9. Print the shortest way from A to E as letters with dashes, then its length on the "
        "next line.",
        python("""\
import heapq
roads = {}
for road in "A-B 7, A-C 9, A-F 14, B-C 10, B-D 15, C-D 11, C-F 2, D-E 6, E-F 9".split(", "):
    ends, length = road.split()
    a, b = ends.split("-")
    roads.setdefault(a, []).append((b, int(length)))
    roads.setdefault(b, []).append((a, int(length)))
queue, seen = [(0, "A", "A")], set()
while queue:
    length, town, way = heapq.heappop(queue)
    if town == "E":
        print("-".join(way), length, sep="\\n")
        break
    if town not in seen:
        seen.add(town)
        for other, more in roads[town]:
            heapq.heappush(queue, (length + more, other, way + other))
"""),
        text("A-C-F-E\n20"),
        said("A-F-E\n23", "A-C-D-E\n26", "A-C-F-E\n21"),
    ),
    Case(
        "topological-order",
        "medium",
        "Tasks and what they need: deploy needs test and package; test needs build; package needs "
        "test; build needs fetch. In which order can they run? One per line.",
        python("""\
from graphlib import TopologicalSorter
needs = {"deploy": ["test", "package"], "test": ["build"], "package": ["test"],
         "build": ["fetch"]}
print(*TopologicalSorter(needs).static_order(), sep="\\n")
"""),
        text("fetch\nbuild\ntest\npackage\ndeploy"),
        said("deploy\npackage\ntest\nbuild\nfetch", "fetch\nbuild\npackage\ntest\ndeploy"),
    ),
    Case(
        "common-subsequence",
        "hard",
        "How long is the longest common subsequence (not substring) of AGGTABQXAYB and GXTXAYBAB?",
        python("""\
a, b = "AGGTABQXAYB", "GXTXAYBAB"
row = [0] * (len(b) + 1)
for x in a:
    previous = row[:]
    for i, y in enumerate(b):
        row[i + 1] = previous[i] + 1 if x == y else max(previous[i + 1], row[i])
print(row[-1])
"""),
        number(6),
        said("4", "5", "7"),
    ),
    Case(
        "knapsack",
        "medium",
        "I can carry 10 kg. Items (kg, value): (5, 10), (4, 40), (6, 30), (3, 50). Each only once. "
        "What is the greatest value I can take?",
        python("""\
best = [0] * 11
for weight, value in [(5, 10), (4, 40), (6, 30), (3, 50)]:
    for room in range(10, weight - 1, -1):
        best[room] = max(best[room], best[room - weight] + value)
print(best[10])
"""),
        number(90, 10),
        said("150", "70", "100"),
    ),
    Case(
        "edit-distance",
        "medium",
        "levenshtein distance between 'intention' and 'execution'",
        node("""\
const [a, b] = ["intention", "execution"];
let row = [...Array(b.length + 1).keys()];
for (let i = 1; i <= a.length; i++) {
  const next = [i];
  for (let j = 1; j <= b.length; j++)
    next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
  row = next;
}
console.log(row[b.length]);
"""),
        number(5),
        said("4", "8", "6"),
    ),
    Case(
        "queens",
        "medium",
        "In how many ways can 8 queens stand on a chessboard without attacking each other? Count "
        "mirrored and turned ones separately.",
        python("""\
from itertools import permutations
print(sum(
    len({c + r for r, c in enumerate(p)}) == len({c - r for r, c in enumerate(p)}) == 8
    for p in permutations(range(8))
))
"""),
        number(92, 8),
        said("12", "40320", "724"),
    ),
    Case(
        "sudoku",
        "hard",
        "Solve this sudoku (dots are empty) and print nine lines of nine digits:\n"
        "53..7....\n6..195...\n.98....6.\n8...6...3\n4..8.3..1\n7...2...6\n.6....28.\n...419..5\n"
        "....8..79\n",
        python("""\
grid = list("53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79")

def fits(place, digit):
    row, column = divmod(place, 9)
    for i in range(9):
        box = (row // 3 * 3 + i // 3) * 9 + column // 3 * 3 + i % 3
        if digit in (grid[row * 9 + i], grid[i * 9 + column], grid[box]):
            return False
    return True

def solve():
    if "." not in grid:
        return True
    place = grid.index(".")
    for digit in "123456789":
        if fits(place, digit):
            grid[place] = digit
            if solve():
                return True
    grid[place] = "."
    return False

solve()
for row in range(9):
    print("".join(grid[row * 9:row * 9 + 9]))
"""),
        text(_SOLVED),
        said(_SOLVED.replace("534678912", "534678921"), "no solution"),
    ),
    Case(
        "brackets",
        "easy",
        "For each of '([]{})', '([)]', '((', '' and '}{' say whether its brackets are balanced: "
        "print yes or no, one line each.",
        python("""\
pairs = {")": "(", "]": "[", "}": "{"}
for text in ("([]{})", "([)]", "((", "", "}{"):
    stack, balanced = [], True
    for c in text:
        if c in pairs:
            balanced = balanced and bool(stack) and stack.pop() == pairs[c]
        else:
            stack.append(c)
    print("yes" if balanced and not stack else "no")
"""),
        text("yes\nno\nno\nyes\nno"),
        said("yes\nyes\nno\nyes\nno", "yes\nno\nno\nno\nno", "yes\nno\nno\nyes\nyes"),
    ),
    Case(
        "merge-intervals",
        "medium",
        "Merge the overlapping or touching intervals [1,3], [8,10], [2,6], [15,18], [10,12] and "
        "print the result as a JSON list of pairs.",
        node("""\
const merged = [];
for (const [a, b] of [[1, 3], [8, 10], [2, 6], [15, 18], [10, 12]].sort((x, y) => x[0] - y[0])) {
  const last = merged.at(-1);
  if (last && a <= last[1]) last[1] = Math.max(last[1], b);
  else merged.push([a, b]);
}
console.log(JSON.stringify(merged));
"""),
        json_value([[1, 6], [8, 12], [15, 18]]),
        said("[[1, 6], [8, 10], [10, 12], [15, 18]]", "[[1, 18]]"),
    ),
    Case(
        "life",
        "hard",
        "Conway's Game of Life on an unbounded grid: the live cells are (1,0), (2,1), (0,2), (1,2) "
        "and (2,2) as (x,y). Print the live cells after 4 generations as 'x,y', one per line.",
        python("""\
from collections import Counter
cells = {(1, 0), (2, 1), (0, 2), (1, 2), (2, 2)}
for _ in range(4):
    near = Counter((x + i, y + j) for x, y in cells for i in (-1, 0, 1) for j in (-1, 0, 1)
                   if i or j)
    cells = {cell for cell, n in near.items() if n == 3 or n == 2 and cell in cells}
for x, y in cells:
    print(f"{x},{y}")
"""),
        any_order("2,1", "3,2", "1,3", "2,3", "3,3"),
        said("1,0\n2,1\n0,2\n1,2\n2,2", "2,1\n3,2\n1,3\n2,3"),
    ),
    Case(
        "maze",
        "medium",
        "How many steps is the shortest way from S to E in this maze? # is wall, moves go up, "
        "down, left and right.\n#########\n#S..#...#\n#.#.#.#.#\n#.#...#E#\n#########\n",
        python("""\
from collections import deque
maze = "#########\\n#S..#...#\\n#.#.#.#.#\\n#.#...#E#\\n#########".split("\\n")
start = next((r, c) for r, row in enumerate(maze) for c, sign in enumerate(row) if sign == "S")
steps, queue = {start: 0}, deque([start])
while queue:
    r, c = queue.popleft()
    if maze[r][c] == "E":
        print(steps[r, c])
        break
    for cell in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
        if maze[cell[0]][cell[1]] != "#" and cell not in steps:
            steps[cell] = steps[r, c] + 1
            queue.append(cell)
"""),
        number(12),
        said("8", "13", "11"),
    ),
    Case(
        "permutations",
        "easy",
        "all permutations of the letters a, b, c, one per line, any order",
        python("""\
from itertools import permutations
for letters in permutations("abc"):
    print("".join(letters))
"""),
        any_order("abc", "acb", "bac", "bca", "cab", "cba"),
        said("abc\nacb\nbac\nbca\ncab", "abc\nacb\nbac\nbca\ncab\ncba\nabc"),
    ),
    Case(
        "coins",
        "medium",
        "In how many ways can 2 pounds be paid with coins of 1, 2, 5, 10, 20, 50, 100 and 200 "
        "pence?",
        python("""\
ways = [1] + [0] * 200
for coin in (1, 2, 5, 10, 20, 50, 100, 200):
    for amount in range(coin, 201):
        ways[amount] += ways[amount - coin]
print(ways[200])
"""),
        number(73682, 2),
        said("73681", "8"),
    ),
    Case(
        "lru-cache",
        "medium",
        "An LRU cache holds 2 keys. After put a, put b, get a, put c, get b, put d, get a, get c, "
        "get d: print for each get 'hit' or 'miss', one per line.",
        python("""\
from collections import OrderedDict
cache = OrderedDict()
for step in "put a, put b, get a, put c, get b, put d, get a, get c, get d".split(", "):
    verb, key = step.split()
    if verb == "get":
        print("hit" if key in cache else "miss")
        if key in cache:
            cache.move_to_end(key)
    else:
        cache[key] = True
        cache.move_to_end(key)
        if len(cache) > 2:
            cache.popitem(last=False)
"""),
        text("hit\nmiss\nmiss\nhit\nhit"),
        said("hit\nhit\nmiss\nhit\nhit", "hit\nmiss\nhit\nmiss\nhit"),
    ),
    Case(
        "spanning-tree",
        "medium",
        "Total weight of the minimum spanning tree of: 1-2 4, 1-3 3, 2-3 1, 2-4 2, 3-4 4, 4-5 2, "
        "5-6 6, 4-6 3",
        python("""\
edges = "1-2 4, 1-3 3, 2-3 1, 2-4 2, 3-4 4, 4-5 2, 5-6 6, 4-6 3"
parts, total = {n: {n} for n in "123456"}, 0
for edge in sorted(edges.split(", "), key=lambda e: int(e.split()[1])):
    ends, weight = edge.split()
    a, b = ends.split("-")
    if parts[a] is not parts[b]:
        total += int(weight)
        parts[a] |= parts[b]
        for member in parts[b]:
            parts[member] = parts[a]
print(total)
"""),
        number(11),
        said("25", "12", "14"),
    ),
    Case(
        "rpn",
        "easy",
        "evaluate the reverse polish expression 5 1 2 + 4 * + 3 -",
        node("""\
const stack = [];
for (const token of "5 1 2 + 4 * + 3 -".split(" ")) {
  if (/\\d/.test(token)) { stack.push(Number(token)); continue; }
  const [b, a] = [stack.pop(), stack.pop()];
  stack.push({"+": a + b, "-": a - b, "*": a * b, "/": a / b}[token]);
}
console.log(stack.pop());
"""),
        number(14),
        said("-14", "26", "17"),
    ),
)
