"""The runtime checker behind the shapes and types in signatures; pyproject.toml names it."""

import beartype

# Python's numeric tower: an int is welcome where a float is expected.
check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
