"""Sums, differences and counting: small numbers only, and a plain no to larger ones."""

from random import Random

from guide.corpus.grammar import expand, patterns
from guide.corpus.topics import read_tables

WORDS = patterns("""
zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen
eighteen|nineteen
""")
TABLES = read_tables("numbers.txt")
NO = "I only add and subtract numbers under 20."
TOO_FAR = "I count to 20 at most."


def sum_of(random: Random) -> tuple[str, str]:
    """A sum of two numbers under 20."""
    a, b = random.randrange(20), random.randrange(20)
    return _spelt(_pattern("SUMS", random), a, b, random), f"{a} + {b} = {a + b}."


def difference_of(random: Random) -> tuple[str, str]:
    """A difference of two numbers under 20 that is not negative."""
    b, a = sorted((random.randrange(20), random.randrange(20)))
    return _spelt(_pattern("DIFFERENCES", random), a, b, random), f"{a} - {b} = {a - b}."


def too_hard(random: Random) -> tuple[str, str]:
    """Arithmetic that the guide does not do."""
    a, b = random.choice((random.randrange(25, 100), random.randrange(100, 10000))), random.randrange(21, 1000)
    return _pattern("TOO_HARD", random).format(a=a, b=b), NO


def counting(random: Random) -> tuple[str, str]:
    """Counting up, between two numbers, down, or further than the guide counts."""
    kind, n = random.random(), random.randint(2, 20)
    if kind < 0.55:
        return _pattern("COUNT_UP", random).format(n=n), _list(range(1, n + 1))
    if kind < 0.75:
        a = random.randint(1, n - 1)
        return _pattern("COUNT_BETWEEN", random).format(a=a, n=n), _list(range(a, n + 1))
    if kind < 0.95:
        return _pattern("COUNT_DOWN", random).format(n=n), _list(range(n, 0, -1))
    return _pattern("COUNT_UP", random).format(n=random.choice((50, 100, 1000, random.randrange(21, 500)))), TOO_FAR


def _pattern(table: str, random: Random) -> str:
    return expand(random.choice(TABLES[table]), random)


def _spelt(frame: str, a: int, b: int, random: Random) -> str:
    spell = random.random() < 0.15 and "+" not in frame and "-" not in frame
    return frame.format(a=WORDS[a], b=WORDS[b]) if spell else frame.format(a=a, b=b)


def _list(numbers: range) -> str:
    return ", ".join(map(str, numbers)) + "."
