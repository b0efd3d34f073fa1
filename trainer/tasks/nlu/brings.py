"""What messages and resources bring to the vocabulary, and whether anything can be learned of it."""

import logging
from collections.abc import Collection, Iterator

from trainer.errors import DataError, shown
from trainer.tasks.nlu import stands_for
from trainer.tasks.nlu.batch import LABELS
from trainer.tasks.nlu.features import feature_names
from trainer.tasks.nlu.lexical import lexical_names
from trainer.tasks.nlu.messages import Lookup, Message, Regex, Resource, Response, Synonym
from trainer.tasks.nlu.replies import answer_texts
from trainer.tasks.nlu.tags import LAYERS, MAX_NAMES
from trainer.tasks.nlu.tokens import tokenize
from trainer.vocabulary import Vocabulary

_LOG = logging.getLogger(__name__)


def names_of(example: Message | Resource) -> Iterator[tuple[str, str]]:
    """The names, with their kinds, that an example or a resource brings."""
    match example:
        case Message():
            yield from _names_of_message(example)
        case Regex(name, pattern):
            line = f"{name}\t{pattern}"
            yield from (("regex", line), ("feature", f"regex:{line}"), ("lexical", f"regex:{line}"))
        case Lookup(name, element):
            yield from (("lookup", f"{name}\t{element}"), ("feature", f"lookup:{name}"), ("lexical", f"lookup:{name}"))
        case Synonym(surface, value):
            yield "synonym", stands_for.line(surface, value)
        case Response(key, text):
            yield "answer", stands_for.line(key, text)


def _names_of_message(message: Message) -> Iterator[tuple[str, str]]:
    yield from (("feature", name) for name in feature_names(message.text))
    yield from (("lexical", name) for token in tokenize(message.text) for name, _ in lexical_names(token.text))
    labels = (("intent", message.intent), ("response", message.response_key))
    yield from ((kind, name) for kind, name in labels if name is not None)
    for entity in message.entities:
        layers = (("entity", entity.entity), ("role", entity.role), ("group", entity.group))
        yield from ((layer, name) for layer, name in layers if name)


def warn_of_lone_intent(vocabulary: Vocabulary) -> None:
    """It is trained all the same: other intents may come with later rounds. A lone retrieval intent may be meant."""
    intents = vocabulary.names("intent")
    if len(intents) == 1 and len(vocabulary.names("response")) < 2:
        text = "%r is the only intent so far: every message will be said to have it; add messages of another intent"
        _LOG.warning(text, intents[0])


def warn_of_no_answers(vocabulary: Vocabulary, keys: Collection[str]) -> None:
    """A retrieval intent is learned all the same; only the text to answer with is missing."""
    answered = answer_texts(vocabulary).keys()
    if missing := sorted(set(keys) - answered):
        text = "retrieval intents without a text to answer with: %s; add utter_%s to responses:"
        _LOG.warning(text, shown(missing), missing[0])


def check_learnable(vocabulary: Vocabulary) -> None:
    """DataError where there is nothing to learn, or more than a network can be built for."""
    if not any(vocabulary.names(kind) for kind in (*LABELS, *LAYERS)):
        raise DataError("no message has an intent or an entity, so there is nothing to learn; annotate some")
    for layer in LAYERS:
        if (num := len(vocabulary.names(layer))) > MAX_NAMES:
            some = shown(vocabulary.names(layer)[-3:])
            text = f"{num:,} {layer} names, more than {MAX_NAMES}, such as {some}; is a value taken for a name?"
            raise DataError(f"{text} an entity has its type in 'entity' and what it stands for in 'value'")
