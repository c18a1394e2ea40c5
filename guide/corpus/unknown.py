"""Questions far outside the guide's ground, about as many different things as possible, and its one answer to them."""

from random import Random

from guide.corpus.grammar import about, expand, patterns, wish
from guide.corpus.topics import read_tables

ANSWER = "I don't know that. I know little beyond this app."

TABLES = read_tables("unknown.txt")
PLACES, PEOPLE, THINGS = (TABLES[name] for name in ("PLACES", "PEOPLE", "THINGS"))
VERBS = patterns("""
set up|install|start|run|open|load|change|train|host|clear|edit|stop|get|use|make|find|choose|see|put|share
build|switch off|become|apply for|improve|repair|sell|buy|peel|wash|learn|teach|play|sing|write|boil|count|measure
turn on|move
""")
_ONSETS = patterns("b|br|c|ch|d|dr|f|fl|g|gr|h|j|k|kr|l|m|n|p|pl|qu|r|s|sh|sk|st|t|th|tr|v|w|z")
_VOWELS = patterns("a|e|i|o|u|ai|ea|oo|ou|ie")
_CODAS = ["", "", "n", "r", "l", "s", "m", "ck", "nd", "rt", "x", "ng"]


def unknown(random: Random) -> tuple[str, str]:
    """A question that the guide cannot answer, and its answer."""
    kind = random.random()
    if kind < 0.25:
        return about(random.choice((*THINGS, *PLACES, *PEOPLE)), random), ANSWER
    if kind < 0.4:
        return about(_made_up(random), random), ANSWER
    if kind < 0.48:
        return wish(random.choice(TABLES["ACTIONS"]), random), ANSWER
    if kind < 0.58:  # the verbs of the app, for other things
        thing = random.choice((_made_up(random), random.choice(THINGS)))
        return wish(f"{random.choice(VERBS)} {thing}", random), ANSWER
    names = {"place": random.choice(PLACES), "thing": random.choice(THINGS), "person": random.choice(PEOPLE)}
    if random.random() < 0.3:
        names = {name: _made_up(random) for name in names}
    return expand(random.choice(TABLES["ASKS"]), random).format(**names), ANSWER


def _made_up(random: Random) -> str:
    """A name that nobody has: with such ones the guide learns that a word it has never seen means a no."""
    words = [
        "".join(random.choice(part) for _ in range(random.randint(1, 3)) for part in (_ONSETS, _VOWELS, _CODAS))
        for _ in range(random.choice((1, 1, 2)))
    ]
    words = [word.title() if random.random() < 0.4 else word for word in words]
    return random.choice(("", "", "a ", "the ")) + " ".join(words)
