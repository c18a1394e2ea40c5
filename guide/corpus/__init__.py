"""All that the guide learns, made by this code from our own words: the same seed gives the same conversations.

facts.txt and small_talk.txt hold what it says, grammar.py how people ask; numbers.py, stories.py and unknown.py make
the rest.
"""

from guide.corpus.conversations import conversations

__all__ = ["conversations"]
