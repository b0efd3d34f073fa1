"""Renaming and merging names: ids stay, what data says goes on to mean something."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import SettingError
from trainer.tasks.nlu.renames import Rename, applied, current, ids, merged, parse
from trainer.vocabulary import Vocabulary

KNOWN = Vocabulary().add("intent", ["ask", "bye", "greet"]).add("entity", ["city", "place"])
NOTHING = {}


def test_what_is_given_is_understood_or_refused():
    assert parse(" greet = hello , entity:city=place,response:faq/a=help/a") == (
        Rename("intent", "greet", "hello"), Rename("entity", "city", "place"), Rename("response", "faq/a", "help/a")
    )  # fmt: skip
    assert parse("") == ()
    assert parse("book:table=reserve") == (Rename("intent", "book:table", "reserve"),)
    for wrong in ("greet", "=hello", "greet=", "a=a", "entity:=b"):
        with pytest.raises(ValueError, match="must be"):
            parse(wrong)
    with pytest.raises(ValueError, match="goes back"):
        parse("a=b,b=a")


def test_a_renamed_name_keeps_its_place_and_the_old_one_goes_on_to_mean_it():
    after = applied(KNOWN, parse("greet=hello"), NOTHING)
    assert after.names("intent") == ("ask", "bye", "hello")
    assert ids(after, "intent") == {"ask": 0, "bye": 1, "greet": 2, "hello": 2}
    assert merged(after, "intent") == {}
    assert after.add("intent", ["new"]).names("intent") == ("ask", "bye", "hello", "new")


def test_a_merged_name_counts_towards_the_other():
    after = applied(KNOWN, parse("greet=bye,entity:city=place"), NOTHING)
    assert after.names("intent") == KNOWN.names("intent"), "its row stays in the network"
    assert ids(after, "intent") == {"ask": 0, "bye": 1, "greet": 1}
    assert merged(after, "intent") == {2: 1}
    assert merged(after, "entity") == {0: 1}


def test_renamings_follow_one_another_and_count_once():
    one = applied(KNOWN, parse("greet=hello"), NOTHING)
    two = applied(one, parse("greet=hello,hello=hi"), NOTHING)
    assert two.names("intent") == ("ask", "bye", "hi")
    assert current(two, "intent", "greet") == current(two, "intent", "hello") == "hi"
    assert applied(two, parse("greet=hello,hello=hi"), NOTHING) is two, "it stays in the job's settings"
    back = applied(two, parse("hi=greet"), NOTHING)
    assert ids(back, "intent")["hello"] == ids(back, "intent")["greet"] == 2


def test_what_only_the_data_knows_may_be_renamed_and_what_nobody_knows_may_not():
    after = applied(KNOWN, parse("old=new"), {"intent": ["old"]})
    assert current(after, "intent", "old") == "new"
    assert ids(after, "intent") == dict(KNOWN.ids("intent")), "nothing has that name yet"
    assert ids(after.add("intent", ["new"]), "intent")["old"] == 3
    with pytest.raises(SettingError, match="no intent is called 'gret', did you mean 'greet'"):
        applied(KNOWN, parse("gret=hello"), NOTHING)
    with pytest.raises(SettingError, match="no intent is called 'greet'; it is called 'hello' now"):
        applied(KNOWN, parse("greet=hello,greet=bye"), NOTHING)
    with pytest.raises(SettingError, match="'greet' is called 'hello' now; name that"):
        applied(applied(KNOWN, parse("greet=hello"), NOTHING), parse("bye=greet"), NOTHING)


NAMES = st.sampled_from("abcdef")


PAIRS = st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] != pair[1])


@given(st.sets(NAMES, min_size=1), st.lists(PAIRS, max_size=6))
def test_every_name_ever_known_leads_to_one_that_is_there(first, pairs):
    vocabulary = Vocabulary().add("intent", first)
    for old, new in pairs:
        before = vocabulary.block_sizes("intent")
        with suppress(SettingError):
            vocabulary = applied(vocabulary, [Rename("intent", old, new)], NOTHING)
            assert current(vocabulary, "intent", old) == current(vocabulary, "intent", new)
        assert vocabulary.block_sizes("intent") == before
    found = ids(vocabulary, "intent")
    assert first <= found.keys()
    dead = merged(vocabulary, "intent")
    assert all(number not in dead for number in found.values()), "nothing leads to a place that counts towards another"
