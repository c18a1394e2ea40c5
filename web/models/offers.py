"""What the page offers to load, in groups: what comes with it, what this machine has room for, and what is larger."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llama_core.checkpoint.estimate import Estimate
from llama_core.errors import UserError
from web.models import catalog

Group = Literal["built_in", "fits", "larger"]


@dataclass(frozen=True)
class Offer:
    """A model that can be loaded: its `name` for `ModelManager.begin`, and what it takes (None: it cannot be read)."""

    name: str
    group: Group
    found: Estimate | None
    licence: str = ""

    @property
    def title(self) -> str:
        """The last part of the name, which says what it is."""
        return self.name.removeprefix(catalog.IN_WEIGHTS).rpartition("/")[2]


def offers(estimate: Callable[[str], Estimate]) -> list[Offer]:
    """All of the list, in the order of their groups. `estimate` is that of the manager."""
    names = [*catalog.local_names(), *catalog.RANDOM, *catalog.ON_THE_HUB]
    found = [_offer(name, estimate) for name in names]
    groups: tuple[Group, ...] = ("built_in", "fits", "larger")
    return sorted(found, key=lambda offer: groups.index(offer.group))


def _offer(name: str, estimate: Callable[[str], Estimate]) -> Offer:
    listed = catalog.ON_THE_HUB.get(name)
    licence = listed.licence if listed else ""
    try:
        found = estimate(name)
    except UserError:  # it says why when it is chosen
        return Offer(name, "fits", None, licence)
    group: Group = "built_in" if catalog.is_built_in(name) else "fits" if found.fits else "larger"
    return Offer(name, group, found, licence)
