"""Words that must not be taken for one another: axes with their poles, numbers, units, directions.

English only, as the sentences that were measured are. Words in none of the tables are left to the
language model to compare.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Axis → pole → words. Different poles of one axis are different requests; so is a pole that only
#: one of two sentences names.
_POLES: Mapping[str, Mapping[str, str]] = {
    "order": {
        "up": "ascending ascend asc increasing smallest-first alphabetical alphabetically",
        "down": "descending descend desc decreasing reverse reversed reversely backward backwards",
    },
    "extreme": {
        "most": "max maximum maximal largest biggest greatest highest longest most top upper best "
        "maximise maximize tallest heaviest",
        "least": "min minimum minimal smallest least lowest shortest fewest bottom lower worst "
        "minimise minimize lightest",
    },
    "bound": {
        "over": "more greater larger bigger higher longer above exceed over heavier taller",
        "under": "less fewer smaller shorter below under beneath lighter",
    },
    "age": {
        "old": "old older oldest earliest earlier past previous before prior ago",
        "new": "new newer newest latest later recent upcoming next after since future",
    },
    "end": {
        "first": "first beginning begin start initial head leading prefix front",
        "last": "last end final tail trailing suffix back ending",
    },
    "quantity": {
        "all": "all every each both entire whole",
        "some": "any some several few",
        "only": "only just solely exclusively",
        "except": "except excluding exclude besides other ignore ignoring skip omit",
    },
    "and": {"or": "or either", "and": "and"},
    "parity": {"even": "even", "odd": "odd"},
    "case": {"upper": "uppercase capital capitals", "lower": "lowercase", "title": "titlecase"},
    "side": {"left": "left", "right": "right"},
    "axis": {"row": "row rows line lines horizontal", "column": "column columns vertical field"},
    "statistic": {
        "mean": "mean average averaged",
        "median": "median",
        "mode": "mode",
        "sum": "sum total totals summed",
        "product": "product",
        "count": "count counts counted",
        "deviation": "deviation stddev",
        "variance": "variance",
        "range": "range",
    },
    "arithmetic": {
        "add": "add plus addition",
        "subtract": "subtract minus subtraction",
        "multiply": "multiply times multiplication",
        "divide": "divide division divided",
        "remainder": "remainder modulo mod",
        "square": "square squared",
        "cube": "cube cubed",
        "root": "root roots",
    },
    "change": {
        "make": "create make insert append add write",
        "remove": "remove delete drop erase strip",
        "replace": "replace substitute",
        "keep": "keep retain preserve",
        "include": "include including contain containing",
    },
    "growth": {"grow": "increase raise grow", "shrink": "decrease reduce shrink"},
    "coding": {"encode": "encode encoding", "decode": "decode decoding"},
    "cipher": {"encrypt": "encrypt encryption", "decrypt": "decrypt decryption"},
    "packing": {"pack": "compress zip pack", "unpack": "decompress unzip unpack extract"},
    "traffic": {"in": "import load read input receive", "out": "export save store send"},
    "joining": {"split": "split", "join": "join merge concatenate concat combine"},
    "sets": {"union": "union", "intersection": "intersection common", "unlike": "difference"},
    "duplicates": {"once": "unique distinct", "again": "duplicate duplicates repeated"},
    "truth": {
        "true": "true enabled enable on valid",
        "false": "false disabled disable off invalid",
    },
    "presence": {"filled": "nonempty", "empty": "empty blank missing null"},
    "sign": {"positive": "positive", "negative": "negative", "absolute": "absolute"},
    "wind": {"clock": "clockwise", "counter": "counterclockwise anticlockwise"},
    "access": {"open": "open", "close": "close closed"},
    "inclusion": {"inclusive": "inclusive inclusively", "exclusive": "exclusive"},
    "loan": {"buy": "buy purchase", "sell": "sell sale", "lend": "lend", "borrow": "borrow"},
    "money": {"income": "income revenue profit gain", "cost": "cost expense loss expenses"},
    "position": {"inner": "inner inside within", "outer": "outer outside"},
    "depth": {"deep": "depth-first depth recursive recursively", "broad": "breadth-first breadth"},
    "round": {"up": "ceiling ceil", "down": "floor truncate", "near": "round rounded nearest"},
    "speed": {"fast": "fastest faster quickest", "slow": "slowest slower"},
    "heat": {"hot": "hot hottest warmest", "cold": "cold coldest"},
    "sort": {"sort": "sort sorted order ordered", "shuffle": "shuffle random randomly"},
    "picture": {
        "bar": "bar",
        "line": "curve",
        "pie": "pie",
        "histogram": "histogram",
        "scatter": "scatter",
    },
    "print": {"list": "list", "number": "number"},
    "way": {"up": "up upward upwards", "down": "down downward downwards"},
    "survey": {"sample": "sample", "population": "population"},
    "place": {"state": "state states", "country": "country countries", "city": "city cities"},
}

#: Word → (axis, pole). A word on several axes counts for the first: a difference is found all the
#: same.
AXES: dict[str, tuple[str, str]] = {}
for _axis, _poles in _POLES.items():
    for _pole, _words in _poles.items():
        for _word in _words.split():
            AXES.setdefault(_word, (_axis, _pole))

NEGATIONS = frozenset(
    ("not", "no", "never", "none", "nothing", "neither", "nor", "without", "cannot", "non")
)

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)

NUMBERS: dict[str, str] = {
    **{word: str(value) for value, word in enumerate(_SMALL)},
    **{"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70"},
    **{"eighty": "80", "ninety": "90", "hundred": "100", "thousand": "1000"},
    **{"million": "1000000", "billion": "1000000000", "dozen": "12", "half": "1/2"},
    **{"quarter": "1/4", "twice": "2x", "double": "2x", "triple": "3x", "once": "1x"},
    **{"second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th", "tenth": "10th"},
}

#: Word → its unit, weekday, month, language, kind of file and the like. Sentences must name the
#: same ones in the same order.
UNITS: dict[str, str] = {}
for _same in (
    *("millisecond milliseconds ms", "second seconds sec secs", "minute minutes min mins"),
    *("hour hours hr hrs hourly", "day days daily", "week weeks weekly", "month months monthly"),
    *("quarter quarters quarterly", "year years yearly annual annually", "decade decades"),
    *("bit bits", "byte bytes", "kb kilobyte kilobytes kib", "mb megabyte megabytes mib"),
    *("gb gigabyte gigabytes gib", "tb terabyte terabytes tib"),
    *("mm millimetre millimeters", "cm centimetre centimeters", "m metre metres meter meters"),
    *("km kilometre kilometres kilometer kilometers", "mile miles", "inch inches", "foot feet"),
    *("yard yards", "gram grams g", "kg kilogram kilograms", "pound pounds lb lbs", "ounce ounces"),
    *("litre litres liter liters", "gallon gallons", "celsius centigrade", "fahrenheit", "kelvin"),
    *("euro euros eur", "dollar dollars usd", "yen jpy", "cent cents", "percent percentage"),
    *("degree degrees", "radian radians", "monday mondays", "tuesday tuesdays"),
    *("wednesday wednesdays", "thursday thursdays", "friday fridays", "saturday saturdays"),
    *("sunday sundays", "january jan", "february feb", "march", "april apr", "june jun"),
    *("july jul", "august aug", "september sep", "october oct", "november nov", "december dec"),
    *("python", "javascript js node", "ruby", "shell bash sh", "csv", "json", "xml", "yaml yml"),
    *("html", "markdown md", "pdf", "png", "svg", "jpg jpeg", "gif", "txt", "xlsx excel", "sql"),
    *("tsv", "toml", "binary", "decimal", "octal", "hexadecimal hex", "base64", "md5", "sha1"),
    *("sha256", "utf8", "ascii", "roman", "morse", "word words", "letter letters"),
    *("character characters char chars", "sentence sentences", "paragraph paragraphs"),
    *("digit digits", "vowel vowels", "consonant consonants", "file files", "folder folders"),
    *("comma commas", "semicolon semicolons", "colon colons", "dash dashes hyphen hyphens"),
    *("underscore underscores", "tab tabs", "space spaces blanks", "dot dots period periods"),
    *(
        "slash slashes",
        "pipe pipes",
        "newline newlines",
        "red",
        "green",
        "blue",
        "black",
        "white",
        "yellow",
    ),
):
    _names = _same.split()
    UNITS.update(dict.fromkeys(_names, _names[0]))

#: Word → the role that it gives to what follows it.
DIRECTIONS: dict[str, str] = {
    **{"from": "from", "out": "from", "to": "to", "into": "to", "onto": "to", "until": "to"},
    **{"till": "to", "before": "before", "after": "after", "since": "after", "than": "than"},
    **{"by": "by", "without": "without", "per": "per", "between": "between", "as": "as"},
    **{"instead": "instead", "against": "against", "over": "over", "under": "under"},
    **{"then": "then"},
}

#: The words above, to which `domain.planning.wording` reduces inflected forms.
STEMS: dict[str, str] = {word: word for word in (*AXES, *NEGATIONS, *UNITS)}
