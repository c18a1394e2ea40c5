"""All that the guide learns, made by this code from our own words: the same seed gives the same conversations.

facts.txt and small_talk.txt hold what it says and how people ask for it, grammar.py general ways to ask; numbers.py,
stories.py and unknown.py make the rest, the first and the last from the tables in the text files of their names.
"""

from guide.corpus.conversations import conversations

__all__ = ["conversations"]
