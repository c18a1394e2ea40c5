"""JSON schemas that hypothesis makes up, of all the kinds that constrained replies promise to follow."""

from hypothesis import strategies as st

NAMES = st.text('abcdefg_é"\\', min_size=1, max_size=4)
VALUES = st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=6)
PATTERNS = ["^[a-c]{1,4}$", "^(ab|cd){1,3}$", "^\\d{2}-\\d{2}$", "^x?y*z$", "[0-9]"]


def between(least, most, names, numbers):
    """A pair of bounds, each there or not."""

    def bounds(pair):
        low, high = sorted(pair)
        return st.fixed_dictionaries({}, optional={names[0]: st.just(low), names[1]: st.just(high)})

    return st.tuples(numbers(least, most), numbers(least, most)).flatmap(bounds)


def typed(kind, keywords):
    return keywords.map(lambda found: {"type": kind, **found})


STRINGS = st.tuples(st.integers(0, 4), st.integers(4, 12)).map(
    lambda pair: {"minLength": pair[0], "maxLength": pair[1]}
)
INTEGERS = between(-300, 300, ("minimum", "maximum"), st.integers)
NUMBERS = st.tuples(st.integers(-50, 50), st.integers(1, 60), st.booleans()).map(
    lambda it: {("exclusiveMinimum" if it[2] else "minimum"): it[0] / 4, "maximum": (it[0] + it[1]) / 4}
)
LEAVES = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}]),
    typed("string", STRINGS),
    st.sampled_from(PATTERNS).map(lambda pattern: {"type": "string", "pattern": pattern}),
    typed("integer", INTEGERS),
    st.sampled_from([2, 5, 12]).map(lambda step: {"type": "integer", "multipleOf": step}),
    typed("number", NUMBERS),
    st.lists(VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    VALUES.map(lambda value: {"const": value}),
)


def arrays(parts):
    lengths = st.tuples(st.integers(0, 2), st.integers(2, 3))
    plain = st.tuples(parts, lengths).map(
        lambda it: {"type": "array", "items": it[0], "minItems": it[1][0], "maxItems": it[1][1]}
    )
    tuples = st.lists(parts, min_size=1, max_size=3).map(
        lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    )
    return plain | tuples


@st.composite
def objects(draw, parts):
    properties = draw(st.dictionaries(NAMES, parts, max_size=3))
    required = [name for name in properties if draw(st.booleans())]
    others = draw(st.sampled_from([False, False, {"type": "integer", "minimum": 0, "maximum": 9}]))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": others}


def unions(parts):
    return st.lists(parts, min_size=1, max_size=3).map(lambda options: {"anyOf": options})


PARTS = st.recursive(LEAVES, lambda parts: arrays(parts) | objects(parts) | unions(parts), max_leaves=6)


def linked(part):
    """A list in which each node holds the next, and a tree."""
    node = {"$ref": "#/$defs/node"}
    chain = {"type": "object", "properties": {"value": part, "next": {"anyOf": [{"type": "null"}, node]}}}
    chain |= {"required": ["value", "next"], "additionalProperties": False}
    tree = {"type": "array", "items": {"anyOf": [part, node]}, "maxItems": 2}
    return st.sampled_from([{**node, "$defs": {"node": chain}}, {**node, "$defs": {"node": tree}}])


SCHEMAS = PARTS | objects(PARTS) | PARTS.flatmap(linked)
