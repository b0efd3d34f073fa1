"""Features are named, weigh what the text alone says, and grow without a change to what was known."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.nlu.features import (
    LENGTH_POWER,
    Features,
    Featurizer,
    char_ngrams,
    feature_names,
    pair_names,
    word_name,
)
from trainer.tasks.nlu.tokens import tokenize
from trainer.vocabulary import Vocabulary

TEXTS = st.lists(st.text("ab1é ,", max_size=12), min_size=1, max_size=4)


def named(features: Features, vocabulary: Vocabulary) -> list[tuple[str, float]]:
    """The names and weights of a message's features."""
    names = vocabulary.names("feature")
    return [(names[i], float(weight)) for i, weight in zip(*features.message[:2], strict=True)]


def test_a_text_has_words_pairs_and_characters() -> None:
    names = set(feature_names("Pay £20, pay"))
    assert {"word:pay", "word:00", "word:£", "pair: pay", "pair:£ 00", "pair:pay ", "char: pay", "char:y "} <= names
    assert word_name("2024-01") == "word:0000-00"
    assert char_ngrams("Ab") == ["a", "b", " a", "ab", "b ", " ab", "ab ", " ab "]
    assert pair_names(()) == []


def test_a_blank_text_has_no_features() -> None:
    found = Featurizer(Vocabulary().add("feature", feature_names("hello"))).features(" \n")
    assert [len(part) for part in (found.tokens, *found.message, *found.forms)] == [0, 0, 0, 1, 0, 0, 0]
    assert found.message.weights.dtype == np.float32


def test_regexes_and_lookups_mark_the_tokens_they_match() -> None:
    vocabulary = Vocabulary().add("regex", ["zip\t[0-9]{5}"]).add("lookup", ["city\tNew York", "city\tyork"])
    vocabulary = vocabulary.add("feature", ["regex:zip\t[0-9]{5}", "lookup:city"]).add("lexical", ["lookup:city"])
    vocabulary = vocabulary.add("entity", ["place"])
    features = Featurizer(vocabulary).features("to new york 10001")
    assert features.forms.sizes.tolist() == [0, 1, 1, 0]
    weight = float(np.float32(4**-LENGTH_POWER))
    assert named(features, vocabulary) == [
        (name, weight) for name in ("lookup:city", "lookup:city", "regex:zip\t[0-9]{5}")
    ]


@given(TEXTS, TEXTS)
def test_what_is_learned_later_changes_nothing_known(old: list[str], new: list[str]) -> None:
    smaller = Vocabulary().add("feature", [name for text in old for name in feature_names(text)])
    larger = smaller.add("feature", [name for text in new for name in feature_names(text)])
    for text in old:
        before, after = Featurizer(smaller).features(text), Featurizer(larger).features(text)
        pairs = zip((*before.message, *before.forms), (*after.message, *after.forms), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
        assert before.tokens == tokenize(text)
    for text in new:
        few, all_of = (named(Featurizer(one).features(text), one) for one in (smaller, larger))
        assert [pair for pair in all_of if pair[0] in smaller.ids("feature")] == few
