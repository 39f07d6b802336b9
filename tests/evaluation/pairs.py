"""Pairs of sentences: some ask the same in other words, most something else in almost the same.

They test whether a program is run only for sentences that ask for what it does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A solved sentence and one that is asked afterwards.

    Attributes:
        kind: what tells the two apart; for paraphrases what differs in how it is said.
        solved: has a program.
        asked: comes alone.
        same: whether every program that is right for one is right for the other.
    """

    kind: str
    solved: str
    asked: str
    same: bool


_NEAR_MISSES: dict[str, tuple[tuple[str, str], ...]] = {
    "order": (
        ("sort the names in ascending order", "sort the names in descending order"),
        ("list the files from newest to oldest", "list the files from oldest to newest"),
        ("rank the teams, highest score first", "rank the teams, lowest score first"),
        ("print the words alphabetically", "print the words in reverse alphabetically"),
    ),
    "direction": (
        ("convert this CSV to JSON", "convert this JSON to CSV"),
        ("transfer 100 euros from Alice to Bob", "transfer 100 euros from Bob to Alice"),
        ("how far is it from Vienna to Graz by road", "how far is it from Graz to Vienna by road"),
        ("convert 20 degrees Celsius to Fahrenheit", "convert 20 degrees Fahrenheit to Celsius"),
        (
            "translate the names from German to English",
            "translate the names from English to German",
        ),
        ("subtract the rent from the income", "subtract the income from the rent"),
        ("divide the total by the count", "divide the count by the total"),
        ("which rows of a.csv are not in b.csv", "which rows of b.csv are not in a.csv"),
    ),
    "age": (
        ("delete log entries older than 30 days", "delete log entries newer than 30 days"),
        ("list the orders before 1 March", "list the orders after 1 March"),
        ("show the users who joined since Monday", "show the users who joined until Monday"),
        ("the earliest date in this list", "the latest date in this list"),
    ),
    "number": (
        ("print the first 10 primes", "print the first 100 primes"),
        ("wrap the text at 72 columns", "wrap the text at 80 columns"),
        ("round the prices to 2 decimals", "round the prices to 3 decimals"),
        (
            "roll two dice a thousand times with seed 1",
            "roll two dice a thousand times with seed 2",
        ),
        ("add 19 percent tax to 250", "add 19 percent tax to 2500"),
        ("split the list into three parts", "split the list into four parts"),
        ("sum of 1.5 and 2", "sum of 15 and 2"),
        ("what is 7 - 3", "what is 7 + 3"),
        ("invoices of 2023 by month", "invoices of 2024 by month"),
    ),
    "negation": (
        ("print the lines that contain error", "print the lines that do not contain error"),
        ("keep the rows with an e-mail address", "keep the rows without an e-mail address"),
        ("count the valid dates", "count the invalid dates"),
        ("remove the duplicates from the list", "keep only the duplicates of the list"),
        ("list the users who have logged in", "list the users who haven't logged in"),
        ("include the header in the output", "exclude the header in the output"),
        ("which numbers are prime", "which numbers are not prime"),
        ("list everything except folders", "list everything including folders"),
        ("enable debug output in the settings file", "disable debug output in the settings file"),
    ),
    "connective": (
        ("rows where city is Wien and age is 30", "rows where city is Wien or age is 30"),
        ("files that match both patterns", "files that match either pattern"),
        ("numbers divisible by 3 and 5 below 100", "numbers divisible by 3 or 5 below 100"),
        ("warn if all checks fail", "warn if any check fails"),
    ),
    "end": (
        ("print the first line of the report", "print the last line of the report"),
        ("show the top five customers by revenue", "show the bottom five customers by revenue"),
        ("strip white space on the left", "strip white space on the right"),
        ("the largest file in the folder", "the smallest file in the folder"),
        ("the maximum temperature of each day", "the minimum temperature of each day"),
        ("add a row at the top of the table", "add a row at the end of the table"),
    ),
    "bound": (
        ("numbers from 1 to 10 inclusive", "numbers from 1 to 10 exclusive"),
        ("orders of at least 100 euros", "orders of at most 100 euros"),
        ("words with more than 5 letters", "words with fewer than 5 letters"),
        ("people aged over 18", "people aged 18 or over"),
        ("scores above the average", "scores below the average"),
        ("round 2.5 up to a whole number", "round 2.5 down to a whole number"),
        ("every other line starting with the first", "every other line starting with the second"),
    ),
    "unit": (
        ("how many minutes is 1000 seconds", "how many hours is 1000 seconds"),
        ("print the size in MB", "print the size in MiB"),
        (
            "distance in kilometres between the two points",
            "distance in miles between the two points",
        ),
        ("total per week of these expenses", "total per month of these expenses"),
        ("the time now in UTC plus one hour", "the time now in UTC plus one minute"),
        ("price the basket in euros", "price the basket in dollars"),
        ("angle in degrees between the vectors", "angle in radians between the vectors"),
    ),
    "name": (
        ("greet Anna in the mail", "greet Hanna in the mail"),
        ("sum the column amount", "sum the column account"),
        ("write the result to a.txt", "write the result to b.txt"),
        ("draw the bars in red", "draw the bars in blue"),
        ("population of Georgia the state", "population of Georgia the country"),
        ("pay the invoice of ACME Ltd", "pay the invoice of ACME Inc"),
    ),
    "spelling": (
        ("print YES for every match", "print yes for every match"),
        ("what is 5² plus 1", "what is 52 plus 1"),
        ("count the spaces in 'a  b'", "count the spaces in 'a b'"),
        ("decode the base64 text YWJj", "decode the base64 text ywjj"),
        ("sum each line of:\n1 2\n3 4", "sum each line of:\n1 2 3 4"),
        ("how many letters has 'ﬁx'", "how many letters has 'fix'"),
        ("how many points has May in the table", "how many points has may in the table"),
    ),
    "measure": (
        ("mean of the salaries", "median of the salaries"),
        ("sum of the squares of 1 to 5", "square of the sum of 1 to 5"),
        (
            "sample standard deviation of the heights",
            "population standard deviation of the heights",
        ),
        ("number of distinct visitors", "number of visits"),
        ("sum the rows of the matrix", "sum the columns of the matrix"),
        ("count the characters of the text", "count the bytes of the text"),
    ),
    "form": (
        ("make the names upper case", "make the names lower case"),
        ("draw a bar chart of the totals", "draw a pie chart of the totals"),
        ("encode the text as base64", "decode the text as base64"),
        ("save the table as CSV with commas", "save the table as CSV with semicolons"),
        ("compress the folder", "decompress the folder"),
        ("print the date as day/month/year", "print the date as month/day/year"),
        ("join the words with dashes", "join the words with underscores"),
    ),
}

_PARAPHRASES: dict[str, tuple[tuple[str, str], ...]] = {
    "verb": (
        ("compute the average of 3, 5 and 9", "calculate the average of 3, 5 and 9"),
        ("show the ten largest cities", "display the ten largest cities"),
        ("remove empty lines from the file", "delete empty lines from the file"),
        ("make a list of all vowels in 'banana'", "create a list of all vowels in 'banana'"),
        ("print the factorial of 12", "output the factorial of 12"),
        ("find every URL in the text", "extract every URL in the text"),
        ("turn the text into a slug", "convert the text into a slug"),
        ("check whether 97 is prime", "determine whether 97 is prime"),
        ("draw a circle as SVG", "paint a circle as SVG"),
        ("save the table to prices.csv", "store the table to prices.csv"),
    ),
    "noun": (
        ("mean of 4, 8 and 12", "average of 4, 8 and 12"),
        ("number of lines in the log", "count of lines in the log"),
        ("the biggest value of the column", "the largest value of the column"),
        ("shortest route from A to D", "shortest path from A to D"),
        ("the initial letters of each name", "the first letters of each name"),
        ("a picture of a red square", "an image of a red square"),
        ("monthly sums of the payments", "monthly totals of the payments"),
        ("the length of each word", "the number of letters of each word"),
        ("list the staff by salary, highest first", "list the employees by salary, highest first"),
        ("a random password of 16 characters", "a random password with 16 characters"),
    ),
    "politeness": (
        ("reverse the word stressed", "please reverse the word stressed"),
        ("sort these numbers: 5 3 9", "could you sort these numbers: 5 3 9"),
        ("what day is 2024-05-01", "tell me what day is 2024-05-01"),
        ("count the words of this sentence", "hey, count the words of this sentence, thanks"),
        ("plot sales by quarter", "I would like you to plot sales by quarter"),
        ("convert 5 miles to kilometres", "I need to convert 5 miles to kilometres"),
        ("is 2000 a leap year", "quick question: is 2000 a leap year?"),
        ("hex of 255", "give me the hex of 255"),
        ("add up 1 to 100", "kindly add up 1 to 100"),
        ("list the squares up to 50", "can you list the squares up to 50?"),
    ),
    "punctuation": (
        ("print pi to ten digits", "print pi to ten digits."),
        ("what is 12 times 12", "What is 12 times 12?"),
        ("sum of 1, 2 and 3", "sum of 1, 2, and 3"),
        ("base64 of 'hello'", 'base64 of "hello"'),
        ("parse the e-mail headers", "parse the email headers"),
        ("from 2029-12-24 how long until 2030-01-01", "from 2029-12-24, how long until 2030-01-01"),
        ("don't print the header of t.csv", "do not print the header of t.csv"),
        ("make a to-do list of five chores", "make a todo list of five chores"),
        ("it's 5 pm in UTC, and in UTC+2?", "it is 5 pm in UTC, and in UTC+2?"),
        ("print 'ok'", "print 'ok'!"),
    ),
    "order of words": (
        ("in Python, print the primes below 50", "print the primes below 50 in Python"),
        ("sort by age the list of people", "sort the list of people by age"),
        ("for each city print its population", "print its population for each city"),
        ("as JSON, list the planets", "list the planets as JSON"),
        ("from the log, count the warnings", "count the warnings from the log"),
        ("how many vowels are in 'education'", "in 'education', how many vowels are there"),
        ("with two decimals, print 1/3", "print 1/3 with two decimals"),
        ("of 6 and 7, print the sum", "print the sum of 6 and 7"),
        ("to out.txt write the word done", "write the word done to out.txt"),
        ("per country, total the revenue", "total the revenue per country"),
    ),
    "wording": (
        ("print the numbers 1 through 5", "print the numbers one to five"),
        ("twice 21", "two times 21"),
        ("the square root of 144", "sqrt(144)"),
        ("a dozen random integers with seed 7", "12 random integers with seed 7"),
        ("every second letter of 'abcdefgh'", "every other letter of 'abcdefgh'"),
        ("half of 90", "50 % of 90"),
        ("100 in binary", "binary representation of 100"),
        ("10 to the power of 6", "10 ** 6"),
        ("largest first: 4 9 2", "descending: 4 9 2"),
        ("rows whose status isn't closed", "rows whose status is not closed"),
        ("what's 15 percent of 80", "what's 15% of 80"),
        ("the third Friday of June 2025", "date of the 3rd Friday of June 2025"),
    ),
}

NEAR_MISSES = tuple(
    Pair(kind, solved, asked, same=False)
    for kind, pairs in _NEAR_MISSES.items()
    for solved, asked in pairs
)

PARAPHRASES = tuple(
    Pair(kind, solved, asked, same=True)
    for kind, pairs in _PARAPHRASES.items()
    for solved, asked in pairs
)

#: The same to the letter: what only the ends, the line ends or the Unicode form tell apart.
REPEATS = tuple(
    Pair("repeat", solved, asked, same=True)
    for solved, asked in (
        ("plot the totals of May", "  plot the totals of May\n"),
        ("sum each column of:\n1 2\n3 4", "sum each column of:\r\n1 2\r\n3 4\r\n"),
        ("menu of the caf\u00e9 as JSON", "menu of the cafe\u0301 as JSON"),
        ("resistance in \u03a9 of two resistors", "resistance in \u2126 of two resistors"),
    )
)
