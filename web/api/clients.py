"""What all doors know of their clients, the page and the API: one object of the app."""

from collections.abc import Sequence

from llama_core.engine.request import Request
from web.api.metrics import Metrics
from web.limits import ClientLimits
from web.models.manager import ModelManager
from web.settings import Settings


class Clients:
    """What each client may have, and what is counted of them all. A client is a key, a name at the login, or else an
    address."""

    def __init__(self, manager: ModelManager, settings: Settings):
        self.limits, self.metrics = ClientLimits(settings), Metrics(manager)

    def count(self, client: str, tokens: int, replies: Sequence[Request]) -> None:
        """Replies to the client ended, for which so many tokens were read and written."""
        self.limits.spend(client, tokens)
        self.metrics.count_replies(replies)
