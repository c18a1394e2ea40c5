"""Which slot a prompt gets, and what of it need not be read."""

from hypothesis import given
from hypothesis import strategies as st

from llama_core.engine.prefix_cache import CacheScope, Slot, choose_slot, common_prefix

IDS = st.lists(st.integers(0, 2), max_size=12)
SCOPES = st.builds(CacheScope, st.sampled_from([None, "one", "two"]), st.integers(0, 12))


def slots(*contents, busy=()):
    """Slots that hold these ids, the first used longest ago."""
    return [Slot(i, list(ids), in_use=i in busy, last_used=i + 1) for i, ids in enumerate(contents)]


def found(choice):
    return choice.slot.index, choice.prefix, choice.source and choice.source.index


def test_the_next_turn_goes_on_in_its_slot():
    assert found(choose_slot(slots([1, 2], [5, 6, 7, 8], [3]), [5, 6, 7, 8, 9, 9])) == (1, 4, None)


def test_a_stranger_takes_the_slot_that_was_used_longest_ago():
    assert found(choose_slot(slots([1, 2], [5, 6], [3]), [9, 9])) == (0, 0, None)
    assert found(choose_slot(slots([1, 2], [5, 6], [3], busy=[0]), [9, 9])) == (1, 0, None)


def test_the_last_token_of_a_prompt_is_always_read():
    assert found(choose_slot(slots([1, 2, 3]), [1, 2, 3])) == (0, 2, None)


def test_a_short_common_beginning_is_copied_and_the_long_rest_kept():
    assert found(choose_slot(slots([4], [1, 2] + [7] * 20), [1, 2, 8])) == (0, 2, 1)
    assert found(choose_slot(slots([1, 2] + [7] * 20), [1, 2, 8])) == (0, 2, None)  # there is no other slot


def test_a_beginning_is_copied_from_a_slot_that_is_busy():
    assert found(choose_slot(slots([1, 2, 3, 4], [1, 2], busy=[0]), [1, 2, 3, 9])) == (1, 3, 0)


def test_nobody_is_let_in_where_all_is_taken():
    assert choose_slot(slots([1], [2], busy=[0, 1]), [1, 2]) is None


@given(
    contents=st.lists(IDS, min_size=1, max_size=4),
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    busy=st.sets(st.integers(0, 3)),
)
def test_what_is_not_read_lies_where_it_is_said_to_lie(contents, prompt, busy):
    choice = choose_slot(all_slots := slots(*contents, busy=busy), prompt)
    if choice is None:
        assert all(slot.in_use for slot in all_slots)
        return
    assert not choice.slot.in_use and choice.prefix < len(prompt)
    holder = choice.source or choice.slot
    assert holder.ids[: choice.prefix] == prompt[: choice.prefix]
    assert choice.prefix == max(common_prefix(slot.ids, prompt[:-1]) for slot in all_slots)


@given(ids=IDS, start=st.integers(0, 12), new=IDS)
def test_writing_keeps_what_lies_behind_only_if_nothing_changed(ids, start, new):
    start = min(start, len(ids))
    slot = Slot(0, list(ids))
    slot.extend(start, new)
    same = ids[start : start + len(new)] == new
    assert slot.ids == (ids if same else ids[:start] + new)


@given(
    contents=st.lists(st.tuples(IDS, SCOPES), min_size=1, max_size=4),
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    scope=SCOPES,
)
def test_what_is_found_is_shared_by_both_or_of_the_same_visitor(contents, prompt, scope):
    all_slots = [Slot(i, list(ids), last_used=i + 1, scope=whose) for i, (ids, whose) in enumerate(contents)]
    choice = choose_slot(all_slots, prompt, scope)
    holder = choice.source or choice.slot
    assert holder.ids[: choice.prefix] == prompt[: choice.prefix]
    for position in range(choice.prefix):
        is_public = all(one.salt is None or position < one.shared_length for one in (holder.scope, scope))
        assert is_public or holder.scope.salt == scope.salt


@given(ids=IDS, before=SCOPES, after=SCOPES, prefix=st.integers(0, 12))
def test_a_slot_that_changes_hands_keeps_what_the_two_have_in_common(ids, before, after, prefix):
    slot = Slot(0, list(ids), scope=before)
    slot.belong_to(after, prefix)
    assert slot.scope == after and slot.ids == (ids if before == after else ids[:prefix])
