"""Sums, differences and counting: small numbers only, and a plain no to larger ones."""

from random import Random

from guide.corpus.grammar import patterns

WORDS = patterns("""
zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen
eighteen|nineteen
""")
SUMS = ("{a} + {b}", "{a}+{b}", "{a} plus {b}", "what is {a} + {b}", "what is {a}+{b}", "what is {a} plus {b}",
        "how much is {a} + {b}", "how much is {a} plus {b}", "add {a} and {b}", "add {a} to {b}", "{a} and {b} is",
        "what is the sum of {a} and {b}", "calculate {a} + {b}", "what do {a} and {b} make", "{a} + {b} =",
        "what does {a} + {b} give", "sum {a} and {b}", "compute {a} plus {b}", "what do you get if you add {a} and {b}",
        "can you add {a} and {b}", "tell me {a} + {b}", "what's {a} plus {b}", "what's {a} + {b}", "solve {a} + {b}",
        "I have {a} apples and get {b} more, how many have I", "please add {a} and {b}", "how many are {a} and {b}")
DIFFERENCES = ("{a} - {b}", "{a} minus {b}", "what is {a} - {b}", "what is {a} minus {b}", "how much is {a} - {b}",
               "take {b} from {a}", "subtract {b} from {a}", "what is left of {a} without {b}", "what's {a} minus {b}")
TOO_HARD = ("{a} + {b}", "what is {a} * {b}", "{a} times {b}", "what is {a} + {b}", "divide {a} by {b}", "{a} / {b}",
            "what is {a} times {b}", "how much is {a} - {b}", "what is the square root of {a}", "multiply {a} by {b}",
            "is {a} a prime number", "what is {a} squared", "solve {a}x = {b}", "what is {a} percent of {b}")
COUNT_UP = ("count to {n}", "please count to {n}", "can you count to {n}", "count up to {n}", "count from 1 to {n}",
            "say the numbers up to {n}", "list the numbers from 1 to {n}", "can you count up to {n}",
            "I want you to count to {n}")
COUNT_BETWEEN = ("count from {a} to {n}", "list the numbers from {a} to {n}", "say the numbers from {a} to {n}")
COUNT_DOWN = ("count down from {n}", "count backwards from {n}", "do a countdown from {n}", "countdown from {n}")
NO = "I only add and subtract numbers under 20."
TOO_FAR = "I count to 20 at most."


def sum_of(random: Random) -> tuple[str, str]:
    """A sum of two numbers under 20."""
    a, b = random.randrange(20), random.randrange(20)
    return _spelt(random.choice(SUMS), a, b, random), f"{a} + {b} = {a + b}."


def difference_of(random: Random) -> tuple[str, str]:
    """A difference of two numbers under 20 that is not negative."""
    b, a = sorted((random.randrange(20), random.randrange(20)))
    return _spelt(random.choice(DIFFERENCES), a, b, random), f"{a} - {b} = {a - b}."


def too_hard(random: Random) -> tuple[str, str]:
    """Arithmetic that the guide does not do."""
    a, b = random.choice((random.randrange(25, 100), random.randrange(100, 10000))), random.randrange(21, 1000)
    return random.choice(TOO_HARD).format(a=a, b=b), NO


def counting(random: Random) -> tuple[str, str]:
    """Counting up, between two numbers, down, or further than the guide counts."""
    kind, n = random.random(), random.randint(2, 20)
    if kind < 0.55:
        return random.choice(COUNT_UP).format(n=n), _list(range(1, n + 1))
    if kind < 0.75:
        a = random.randint(1, n - 1)
        return random.choice(COUNT_BETWEEN).format(a=a, n=n), _list(range(a, n + 1))
    if kind < 0.95:
        return random.choice(COUNT_DOWN).format(n=n), _list(range(n, 0, -1))
    return random.choice(COUNT_UP).format(n=random.choice((50, 100, 1000, random.randrange(21, 500)))), TOO_FAR


def _spelt(frame: str, a: int, b: int, random: Random) -> str:
    spell = random.random() < 0.15 and "+" not in frame and "-" not in frame
    return frame.format(a=WORDS[a], b=WORDS[b]) if spell else frame.format(a=a, b=b)


def _list(numbers: range) -> str:
    return ", ".join(map(str, numbers)) + "."
