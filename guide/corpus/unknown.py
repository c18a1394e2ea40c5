"""Questions far outside the guide's ground, about as many different things as possible, and its one answer to them."""

from random import Random

from guide.corpus.grammar import about, expand, patterns, wish

ANSWER = "I don't know that. I know little beyond this app."

PLACES = patterns("""
France|Germany|Japan|Brazil|Egypt|Kenya|Canada|India|China|Peru|Italy|Spain|Norway|Greece|Mexico|Poland|Turkey|Paris
London|Berlin|Tokyo|Rome|Madrid|Cairo|Lima|Oslo|New York|Sydney|Moscow|Vienna|Africa|Europe|Asia|Mars|Texas|the Alps
the Amazon|the Sahara|the Pacific|the Nile|Jupiter|Iceland|Cuba|Portugal|Chile|Korea|Finland|Nepal|California
Scotland|Ireland|Australia|Venice|Prague|Athens|Boston|Mumbai|Nigeria|Vietnam|Sweden
""")
THINGS = patterns("""
photosynthesis|gravity|democracy|inflation|a black hole|the moon landing|evolution|electricity|a volcano|an atom|DNA
a virus|chess|football|tennis|the stock market|a mortgage|jazz|opera|the Renaissance|the Roman Empire|World War II
the French Revolution|quantum physics|relativity|the big bang|algebra|calculus|geometry|pi|a triangle|an earthquake
a hurricane|the weather|climate change|bread|pizza|sushi|soup|chocolate|coffee|tea|wine|cheese|a tomato|an elephant
a whale|a spider|dinosaurs|penguins|bacteria|the heart|the brain|blood|sugar|vitamins|cancer|a headache|the flu
medicine|yoga|a guitar|a piano|the violin|a car|an engine of a car|a bicycle|a train line|an airplane|a rocket
a bridge|a pyramid|the Eiffel Tower|a passport|taxes|insurance|a contract|the law|a lawyer|philosophy|stoicism
religion|Christmas|Easter|the Olympics|baseball|golf|the world cup|poker|Minecraft|Python lists|JavaScript|HTML|SQL
a database|Linux|Windows|Excel|bitcoin|blockchain|a laptop battery|a smartphone|wifi routers|the speed of light
the ocean|a desert|gold|iron|plastic|oxygen|the sun|a comet|love|happiness|marriage|friendship|a dream|fashion
a wedding|a haircut|a garden hose|a fridge|a dishwasher|gardening|knitting|painting|Shakespeare|Mozart|Picasso
Einstein|Napoleon|Cleopatra|Darwin|Newton|Beethoven|the Beatles|Harry Potter|Star Wars|Batman|Hamlet|a sonnet
grammar|a noun|Latin|the alphabet|a comma|economics|unemployment|supply and demand|a recession|a bank|the president
parliament|the United Nations|the pope|a vaccine|surgery|a diet|calories|protein|sleep apnea|a horse race
sailing boats|a camera|the telephone|television|radio waves|a magnet|a laser|steam|nuclear power|an onion|rice
an egg|a sandwich|a cactus|roses|mushrooms|a forest fire|a shark|bees and honey|a giraffe
""")
PEOPLE = patterns("""
Albert Einstein|Napoleon|Barack Obama|Taylor Swift|Leonardo da Vinci|Julius Caesar|Marie Curie|Elvis|Gandhi
Shakespeare|Mozart|Isaac Newton|Cleopatra|Messi|Madonna|Charles Darwin|Aristotle|Plato|Picasso|Tolstoy
""")
ACTIONS = patterns("""
bake bread|cook rice|make pancakes|fix my car|change a tyre|lose weight|learn the guitar|tie a tie|grow tomatoes
get a job|write a CV|buy a house|save money|invest in shares|sleep better|get rich|learn French|plant a tree
remove a stain|cut my hair|clean a window|build a table|paint a wall|train a dog|feed a cat|ride a bike|swim faster
run a marathon|play chess|solve a cube|draw a face|make coffee|brew beer|boil an egg|cook pasta|roast a chicken
book a flight|get a visa|find a doctor|cure a cold|stop a nosebleed|file my taxes|write a novel
sort a list in Python|write a function in Java|center a div|install Windows|repair a phone|reset my email password
print a document|tie a knot|iron a shirt|catch a fish|light a fire|find water in a desert|whistle|juggle
dance the tango|write a love letter|ask a girl out|name my baby|choose a school|pass an exam|win an election
start a company
""")
VERBS = patterns("""
set up|install|start|run|open|load|change|train|host|clear|edit|stop|get|use|make|find|choose|see|put|share
build|switch off|become|apply for|improve|repair|sell|buy|peel|wash|learn|teach|play|sing|write|boil|count|measure
turn on|move
""")
ASKS = patterns("""
what is the (capital|population|flag|currency|language|president|size|area|history) of {place}|where is {place}
(how far|how long) is it (to|from) {place}|what is the weather (in|like in) {place}( today| tomorrow|)
how big is {place}|who is the (king|president|queen|prime minister|leader) of {place}
what language do they speak in {place}|how many people live in {place}|what can I (visit|eat|do) in {place}
is {place} (a country|beautiful|far away|safe)|when (did|was) {person} (die|born|live|famous)|who (was|is) {person}
what did {person} (write|do|discover|invent|say)|who (invented|discovered|wrote|painted|made) {thing}
how old (is|was) {person}|what is the history of {thing}|when was {thing} (invented|discovered|made)
how much does {thing} (cost|weigh)|is {thing} (good|bad|healthy|dangerous)
why is {thing} (so |)(expensive|famous|popular|hard)|where does {thing} come from
how many kinds of {thing} are there
who won the (world cup|election|match|race|Oscar|Nobel prize)( in 1998| in 2010| last year| yesterday|)
what is the (best|tallest|longest|oldest|fastest|biggest|deepest) (mountain|river|building|animal|car)
what is the (best|tallest|longest|oldest|fastest|biggest|deepest) (film|book|lake|country|bird|ocean)
(recommend|suggest) (me |)a (film|book|restaurant|song|hotel|holiday|recipe|game|gift)
translate (hello|good morning|I love you|the house|thank you) (to|into) (French|German|Spanish|Latin|Japanese)
what is the (meaning of life|news today|stock price of Apple)
what is the (price of gold|boiling point of water|chemical formula of salt)
how (tall|old|rich|heavy) is {person}
why (is the sky blue|is the sea salty|do birds fly|do cats purr|do we dream|do leaves fall)
what (should|can) I (eat|cook|wear|buy|read|watch) (today|tonight|tomorrow|for dinner|for my birthday)
write (a|an) (essay|email|letter|speech|program|recipe|article|summary|python script|contract) (about|on|for) {thing}
(who|what) (do you think|will) (is the best|win the election|will happen next year|rules the world)
what (year|day) did {thing} (start|begin|end)|is there life on {place}
how do (birds|planes|fish|cars|magnets) (fly|move|breathe|work)
what (is|was) the (name|colour|age) of (my dog|my mother|my car|the first dog in space|the moon of {place})
how many (legs has a spider|bones are in the body|planets are there)
how many (days has a year|stars are in the sky|players has a team)
I have a (headache|fever|cold|toothache), what (should I do|can I take|helps)
what is my (name|age|job|password|address)
give me (a recipe for|facts about|a list of|the price of|a picture of|the history of) {thing}|do you like {thing}
who sings {thing}|which {thing} is the (best|oldest|hottest|cheapest)
name (two|three|five|some) (kinds of |)(birds|trees|{thing})
how long (should|must|do) I (cook|boil|bake|wash|wait for) {thing}|what does a (doctor|baker|judge|pilot|{thing}) do
which (team|country|player|actor) won (the cup|gold|the race|the prize) in (1990|2002|2012|2020)
write a (java|python|C) (function|program) that (adds|sorts|prints|counts) (lists|words|numbers|lines)
tell me about the (history|life|origin) of {thing}|what are the (rules|causes|signs|parts) of {thing}
do you know {person}|what is your favourite (colour|food|film|song|animal|book)|what do you think about {thing}
(can|could) you (order|buy|bring|cook|draw|paint|play) (me |)(a pizza|some music|a taxi)
(can|could) you (order|buy|bring|cook|draw|paint|play) (me |)(a picture|dinner|a film|a game)
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
        return wish(random.choice(ACTIONS), random), ANSWER
    if kind < 0.58:  # the verbs of the app, for other things
        thing = random.choice((_made_up(random), random.choice(THINGS)))
        return wish(f"{random.choice(VERBS)} {thing}", random), ANSWER
    names = {"place": random.choice(PLACES), "thing": random.choice(THINGS), "person": random.choice(PEOPLE)}
    if random.random() < 0.3:
        names = {name: _made_up(random) for name in names}
    return expand(random.choice(ASKS), random).format(**names), ANSWER


def _made_up(random: Random) -> str:
    """A name that nobody has: with such ones the guide learns that a word it has never seen means a no."""
    words = ["".join(random.choice(part) for _ in range(random.randint(1, 3)) for part in (_ONSETS, _VOWELS, _CODAS))
             for _ in range(random.choice((1, 1, 2)))]
    words = [word.title() if random.random() < 0.4 else word for word in words]
    return random.choice(("", "", "a ", "the ")) + " ".join(words)
