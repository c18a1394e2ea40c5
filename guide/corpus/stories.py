"""A grammar of tiny stories with many good ways on at every point, so that temperature shows."""

import re
from random import Random

from guide.corpus.grammar import expand, patterns

HEROES = patterns("""
cat|dog|fox|owl|bear|mouse|rabbit|hen|duck|frog|horse|sheep|goat|llama|bee|snail|turtle|crow|wolf|fish|robot|boy
girl|king|queen|baker|sailor|giant|dragon|witch|knight|ghost|cloud|star|tree|boat|lamp|train
""")
ADJECTIVES = patterns("""
little|small|young|old|brave|shy|kind|clever|lazy|hungry|sleepy|happy|lonely|quiet|curious|tiny
""")
NAMES = patterns("""
Mia|Tom|Lulu|Ben|Ada|Otto|Nina|Pip|Rosa|Max|Ella|Finn|Zoe|Leo|Ida|Sam|Coco|Tilly|Hugo|Bo
""")
PLACES = patterns("""
in a forest|by the sea|on a hill|in a small town|near a lake|in an old house|under a big tree|on a farm|in a castle
on an island|behind the moon|at the end of a long road|in a garden|next to a mill
""")
WISHES = patterns("""
a friend|a red ball|the moon|a warm bed|a song|a new hat|some cake|to fly|to see the sea|to learn to swim
to find a treasure|to read a book|to dance|to go home|a ride in a boat|to be brave|a garden of roses
""")
EVENTS = patterns("""
it began to rain|the wind took away the hat|a bird fell from its nest|the bridge broke|the lights went out
a stranger knocked at the door|there was a strange noise|snow fell all night|the river rose|a letter came
a box stood on the path|the sun did not rise|a map lay in the grass
""")
DEEDS = patterns("""
ran out to help|thought for a long time|asked an old owl|lit a small lamp|built a boat|climbed the hill|sang a song
shared the last piece of bread|looked under every stone|followed the river|waited for the morning
told everybody about it|took a deep breath and went on|made a soup for all
""")
TURNS = patterns("""
soon everything was well again|a new friend came along|the way was clear|everyone laughed|it worked at once
the moon came out and showed the way|nobody was afraid any more|there was enough for all|the trouble was over
something wonderful happened
""")
ENDS = patterns("""
From that day on {name} was never lonely.|That night {name} slept very well.|And {name} smiled all the way home.
Now {name} tells this story to everyone.|They are friends to this day.|And that was the best day of all.
{name} never forgot it.|So {name} learned that small steps go far.|The end.
""")
OPENINGS = (
    "Once there was {a} {hero} named {name} who lived {place}.",
    "{name} was {a} {hero} {place}.",
    "Long ago, {place}, lived {a} {hero} called {name}.",
    "There was once {a} {hero} {place}, {name} by name.",
    "In a time of wonders {name}, {a} {hero}, lived {place}.",
)
MIDDLES = (
    "{name} wanted {wish}.",
    "More than anything, {name} wished for {thing}.",
    "Every day {name} dreamed of {thing}.",
)
ASKS = patterns("""
tell me a story|tell me a (short|little|tiny|nice|good|new|bedtime) story|a story please|write a story
make up a story|write me a (short |little |)story|can you tell a story|I want (to hear |)a story|story
give me a story|tell a tale|please tell me a story|do you know a story|once upon a time|read me a story
I would like a story|invent a story|could you write a story|let me hear a story|how about a story|any stories
tell me something nice|entertain me
""")
ABOUT = patterns("""
tell me a story about {x}|a story about {x}|write a story about {x}|can you tell a story about {x}|story about {x}
I want a story about {x}|tell me about a day of {x}|make up a story about {x}|write something about {x} for a child
do you know a story about {x}|give me a tale of {x}|tell me a (short|little) story about {x}|story of {x} please
""")
AGAIN = patterns("""
another one|another story|one more|again|tell me another|another story please|one more story|a different story
more stories|next story|tell me another story|and another one
""")


def story(random: Random, hero: str | None = None) -> str:
    """A story of five or six sentences, about `hero` if one is asked for."""
    hero = hero or random.choice(HEROES)
    adjective, name, wish = random.choice(ADJECTIVES), random.choice(NAMES), random.choice(WISHES)
    words = {"a": f"{_article(adjective)} {adjective}", "hero": hero, "name": name, "place": random.choice(PLACES)}
    things = [one for one in WISHES if not one.startswith("to ")]
    sentences = [
        random.choice(OPENINGS).format(**words),
        random.choice(MIDDLES).format(name=name, wish=wish, thing=random.choice(things)),
        f"One {random.choice(('day', 'night', 'morning', 'evening'))} {random.choice(EVENTS)}.",
        f"{random.choice((name, f'So {name}', f'Then {name}', f'The {hero}'))} {random.choice(DEEDS)}"
        f"{random.choice((', and', '. In the end', '. And then', ', until'))} {random.choice(TURNS)}.",
        random.choice(ENDS).format(name=name),
    ]
    return " ".join(sentences)


def story_request(random: Random) -> tuple[str, str]:
    """A wish for a story and a story; sometimes about somebody."""
    if random.random() < 0.5:
        return expand(random.choice(ASKS), random), story(random)
    hero = random.choice(HEROES)
    named = f"{random.choice((_article(hero), 'the', f'a {random.choice(ADJECTIVES[:2])}'))} {hero}"
    return expand(random.choice(ABOUT), random).format(x=named), story(random, hero)


def story_words() -> set[str]:
    """Every word that a story can have, in lower case."""
    tables = HEROES + ADJECTIVES + NAMES + PLACES + WISHES + EVENTS + DEEDS + TURNS + ENDS + list(OPENINGS + MIDDLES)
    own = "a an one day night morning evening so then the and in end until"
    return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", " ".join([*tables, own])).lower()))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
