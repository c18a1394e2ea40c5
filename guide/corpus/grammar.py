"""Many ways to ask: patterns with alternatives, general frames around a term or a wish, and how people really type."""

import re
from random import Random

from guide.corpus.topics import Topic

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")


def patterns(table: str) -> list[str]:
    """The patterns of a table; a | inside brackets is an alternative, not a border."""
    return [pattern for line in table.strip().splitlines() for pattern in re.split(r"\|(?![^()]*\))", line)]


# Around the name of a thing.
TERM_FRAMES = patterns("""
what is {x}|what's {x}|what are {x}|what does {x} mean|what does {x} do|what is {x} for|what is {x} good for
what is meant by {x}|what do you mean by {x}|what is the meaning of {x}|what is the purpose of {x}|whats {x}
what exactly is {x}|what is {x} exactly|what is {x} about|what on earth is {x}|what is this {x} thing
what is the idea (of|behind) {x}|what is the point of {x}|what should I know about {x}
what can you tell me about {x}|what do you know about {x}|what happens with {x}|what is so special about {x}
what role does {x} play|what does it mean when people (say|talk about) {x}|what is {x} used for
what is {x} in a (language model|llama|few words)|how does {x} work|how do {x} work|how is {x} used|how do I use {x}
how would you explain {x}|how should I set {x}|how can I understand {x}|how can {x} be explained
how does {x} change (the text|things|the reply)|how important is {x}|explain {x}|explain {x} to me
explain {x} to (a child|a beginner|me like I am five)|can you explain {x}|please explain {x}|could you explain {x}
would you explain {x} to me|explain how {x} works|explain what {x} is|tell me about {x}|tell me what {x} is
tell me something about {x}|tell me more about {x}|tell me how {x} works|can you tell me what {x} is
could you tell me what {x} means|do you know what {x} is|do you know about {x}|define {x}
give me a definition of {x}|definition of {x}|describe {x}|can you describe {x}|meaning of {x}
I don't understand {x}|I do not know what {x} is|I don't get {x}|I want to understand {x}|I wonder what {x} is
I want to know (about|what) {x}|I would like to know what {x} is|I am confused about {x}|I have a question about {x}
help me understand {x}|teach me about {x}|teach me {x}|I keep (hearing|reading) about {x}|I heard (of|about) {x}
I read (something |)about {x}, what is it|I see {x} here, what is it|there is something called {x}, what is that
why do we need {x}|why do I need {x}|why is there {x}|why is {x} important|why does {x} matter|why {x}
when do I need {x}|when should I use {x}|where do I use {x}|why would (I|anyone|somebody) use {x}|{x}
{x}, what is that|{x} explained|and {x}|what about {x}|{x}, please explain|{x} meaning|{x} definition|so what is {x}
in simple words, what is {x}|in one sentence, what is {x}|briefly, what is {x}|simply put, what is {x}
can you say what {x} is|give me a short explanation of {x}|a short explanation of {x} please|an introduction to {x}
show me what {x} does|I need to understand {x}|I am new here, what is {x}|I'd like to learn about {x}|who needs {x}
what's the deal with {x}|what's {x} all about|let us talk about {x}|could you describe what {x} does
remind me what {x} is|what was {x} again|is {x} important|should I care about {x}|what does the word {x} mean
""")
# Around something to be done.
WISH_FRAMES = patterns("""
how do I {x}|how can I {x}|how to {x}|how do you {x}|how does one {x}|how would I {x}|how could I {x}
how should I {x}|can I {x}|could I {x}|is it possible to {x}|is there a way to {x}|what is the way to {x}
what's the best way to {x}|I want to {x}|I would like to {x}|I'd like to {x}|I need to {x}|I wish to {x}
I am trying to {x}|I have to {x}|I want to {x}, how|I need to {x}, what do I do|I don't know how to {x}
I do not see how to {x}|I cannot {x}|tell me how to {x}|tell me how I can {x}|explain how to {x}|show me how to {x}
please show me how to {x}|help me {x}|can you help me {x}|can you tell me how to {x}|do you know how to {x}
could you tell me how I {x}|what do I do to {x}|what must I do to {x}|what should I do to {x}|what do I need to {x}
what does it take to {x}|where do I {x}|where can I {x}|which setting do I need to {x}|what is needed to {x}
what are the steps to {x}|am I able to {x}|am I allowed to {x}|does the app let me {x}|what if I want to {x}
what do I have to do to {x}|is it hard to {x}|steps to {x}|teach me to {x}|let me {x}|{x}|please {x}
I'm wondering how to {x}|any way to {x}|what would I do to {x}|what's the trick to {x}|what do I press to {x}
where do I click to {x}|how might one {x}
""")
# Patterns of whole questions differ most from one another, so they are asked most often.
KIND_SHARES = {"terms": 3, "do": 2, "ask": 6}
FILLERS = patterns("""
a|an|any|are|at|be|between|by|can|case|change|come|could|did|do|does|effect|for|from|gets|give|gives|good|had|has|have
help|helps|here|how|I|if|in|inside|is|it|its|kind|like|likely|made|make|many|me|might|most|much|my|not|of|often|on|one
or|other|over|part|people|place|put|really|reason|said|say|see|show|some|someone|sort|still|stuff|such|take|than|that
the|their|then|there|these|thing|things|this|those|to|try|under|use|used|usually|very|want|was|way|we|went|were|what
when|where|which|who|why|will|with|without|word|would|you|your
""")
BEFORE = patterns("""
hey,|hi,|hello,|ok,|so,|and|please,|now|tell me,|a question:|quick question:|well,|oh,|say,|sorry,
""")
AFTER = patterns("""
please|thanks|exactly|in short|in simple words|briefly|again|then|really|here|now|actually|in this app
""")


def expand(pattern: str, random: Random) -> str:
    """The pattern with one alternative chosen in each (a|b)."""
    while found := _CHOICE.search(pattern):
        pattern = pattern[: found.start()] + random.choice(found[1].split("|")) + pattern[found.end() :]
    return pattern


def about(term: str, random: Random) -> str:
    """A question about the thing of this name."""
    if random.random() < 0.2:
        return _among_fillers(term, random)
    return expand(random.choice(TERM_FRAMES), random).format(x=term)


def wish(deed: str, random: Random) -> str:
    """A question of how to do this."""
    if random.random() < 0.1:
        return _among_fillers(deed, random)
    return expand(random.choice(WISH_FRAMES), random).format(x=deed)


def _among_fillers(words: str, random: Random) -> str:
    """The words among any others: what is asked about counts more than how it is asked."""
    before, after = (random.choices(FILLERS, k=random.randint(low, 4)) for low in (1, 0))
    return " ".join([*before, words, *after])


def question(topic: Topic, random: Random) -> str:
    """A question for a topic, neatly written. Each kind of pattern has its share, so that none is rare."""
    kinds = [kind for kind in ("terms", "do", "ask") if getattr(topic, kind)]
    kind = random.choices(kinds, [KIND_SHARES[kind] for kind in kinds])[0]
    chosen = expand(random.choice(getattr(topic, kind)), random)
    if kind == "terms":
        return about(chosen, random)
    if kind == "do":
        return wish(chosen, random)
    return _among_fillers(chosen, random) if random.random() < 0.05 else chosen


def as_typed(text: str, random: Random) -> str:
    """The question as somebody might type it: a word before or after it, capitals, question mark and slips."""
    text = " ".join(text.split()).replace(" ,", ",").replace(" :", ":")
    if random.random() < 0.08:
        text = _shortened(text, random)
    if random.random() < 0.15:
        text = f"{random.choice(BEFORE)} {text}"
    if random.random() < 0.1:
        text += f" {random.choice(AFTER)}"
    style = random.random()
    if style < 0.55:
        text = text[0].upper() + text[1:]
    elif style < 0.85:
        text = text.lower()
    if random.random() < 0.12:
        text = _slip(text, random)
    return text + random.choices(["?", "", ".", "!", "??"], [60, 30, 6, 2, 2])[0]


def _shortened(text: str, random: Random) -> str:
    """Without one of its small words."""
    words = text.split()
    small = [i for i, word in enumerate(words) if word in FILLERS]
    if small and len(words) > 3:
        del words[random.choice(small)]
    return " ".join(words)


def _slip(text: str, random: Random) -> str:
    """Two letters swapped, one lost or one doubled, inside a word."""
    places = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 2].isalpha()]
    if not places:
        return text
    i = random.choice(places)
    return random.choice(
        [text[:i] + text[i + 1] + text[i] + text[i + 2 :], text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:]]
    )
