"""Replies of an engine that needs no model."""

import pytest
from fake_engine import FakeEngine, fake_model

from web.chat.replies import ReplyManager
from web.models.manager import Served


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def replies(engine):
    """A `ReplyManager`, and beside it what is served."""
    replies = ReplyManager()
    replies.served = Served(engine, fake_model())
    return replies
