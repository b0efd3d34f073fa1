"""What remains to be done, as functions of settings and ledger."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.ledger import TOTALS, Ledger, Replay, Round, Shard
from trainer.order import PassOrder
from trainer.plan import MAX_WINDOW_EXAMPLES, Progress, balanced, epochs_of, is_done, next_round, settings_of, target
from trainer.settings import TrainSettings, fields_of

LABELS = "abcd"
nearest = round
counts = st.dictionaries(st.sampled_from(LABELS), st.integers(1, 20), min_size=1)
rounds = st.lists(st.lists(counts, min_size=1, max_size=4), min_size=1, max_size=4)


def shard(key: str, labels: dict[str, int], **more: object) -> Shard:
    num = sum(labels.values())
    fields = {"size": 100, "sha256": key, "num_read": num, "num_examples": num, "labels": labels, **more}
    return Shard(key=key, **fields)  # type: ignore[arg-type]


def ledger_of(plan: list[list[dict[str, int]]], settings: TrainSettings) -> tuple[Ledger, list[Round]]:
    """The rounds that these shards form, one after the other."""
    ledger, made = Ledger(), []
    for number, shards in enumerate(plan):
        new = [shard(f"{number}-{place}", labels) for place, labels in enumerate(shards)]
        round = next_round(ledger, new, [], settings, 1000)
        assert round is not None
        ledger, made = ledger.with_round(round.to_lines), [*made, round]
    return ledger, made


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50)), st.floats(0, 300))
def test_shares_are_as_equal_as_the_labels_allow(totals, wanted):
    shares = balanced(totals, wanted, {})
    assert sum(shares.values()) == min(round(wanted), sum(totals.values()))
    assert all(0 <= shares[label] <= totals[label] for label in totals)
    unfilled = [shares[label] for label in totals if shares[label] < totals[label]]
    assert max(shares.values(), default=0) - min(unfilled, default=max(shares.values(), default=0)) <= 1


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1),
    st.floats(0, 300),
)
def test_shares_have_what_they_must_before_they_are_equal(drawn, wanted):
    totals = {label: total for label, (total, _) in drawn.items()}
    at_least = {label: min(total, lacking) for label, (total, lacking) in drawn.items()}
    shares = balanced(totals, wanted, at_least)
    assert sum(shares.values()) == max(sum(at_least.values()), min(round(wanted), sum(totals.values())))
    assert all(at_least[label] <= shares[label] <= totals[label] for label in totals)
    more = [shares[label] for label in totals if shares[label] > at_least[label]]
    unfilled = [shares[label] for label in totals if shares[label] < totals[label]]
    assert max(more, default=0) - min(unfilled, default=50) <= 1


@given(rounds, st.floats(0, 2))
def test_old_examples_are_distinct_old_and_as_many_as_asked_for(plan, replay):
    _, made = ledger_of(plan, TrainSettings(replay=replay))
    old: dict[str, dict[str, int]] = {}
    for round in made:
        for drawn in round.replay:
            assert drawn.picks is not None
            for label, ordinals in drawn.picks.items():
                assert sorted(set(ordinals)) == list(ordinals)
                assert ordinals[-1] < old[drawn.shard.key][label]
        available = sum(sum(labels.values()) for labels in old.values())
        wanted = nearest(round.num_new * replay)
        assert round.num_old == min(wanted, available)
        old |= {one.key: dict(one.labels) for one in round.shards}


@given(rounds)
def test_the_draw_is_a_function_of_seed_and_ledger(plan):
    assert ledger_of(plan, TrainSettings())[1] == ledger_of(plan, TrainSettings())[1]


@given(rounds)
def test_labels_belong_to_the_round_that_brought_them(plan):
    ledger, made = ledger_of(plan, TrainSettings())
    known: set[str] = set()
    for round, shards in zip(made, plan, strict=True):
        brought = {label for labels in shards for label in labels} - known
        assert round.labels == tuple(sorted(brought))
        known |= brought
    assert set(ledger.rounds_of_labels()) == known


@given(rounds)
def test_all_and_none_of_the_old_data(plan):
    _, every = ledger_of(plan, TrainSettings(old_data="all"))
    _, none = ledger_of(plan, TrainSettings(old_data="none"))
    before = 0
    for round in every:
        assert round.num_old == before
        before += round.num_new
    assert [round.num_old for round in none] == [0] * len(none)


def test_a_removed_shard_is_never_replayed_again():
    settings = TrainSettings(old_data="all")
    ledger, _ = ledger_of([[{"a": 5}, {"b": 5}]], settings)
    second = next_round(ledger, [shard("x", {"a": 1})], ["0-0"], settings, 1000)
    assert second is not None
    ledger = ledger.with_round(second.to_lines)
    third = next_round(ledger, [shard("y", {"a": 1})], [], settings, 1000)
    assert third is not None
    assert [replay.shard.key for replay in third.replay] == ["0-1", "x"]


def test_an_edited_shard_is_replayed_as_it_is_now_without_what_is_new():
    settings = TrainSettings(old_data="all")
    ledger, _ = ledger_of([[{"a": 5}]], settings)
    edited = shard("0-0", {"a": 4, "b": 2}, new=(4, 5), new_labels={"b": 2})
    second = next_round(ledger, [edited], [], settings, 1000)
    assert second is not None
    assert second.num_new == 2
    assert second.labels == ("b",)
    assert second.num_old == 4
    ledger = ledger.with_round(second.to_lines)
    third = next_round(ledger, [shard("y", {"a": 1})], [], settings, 1000)
    assert third is not None
    assert third.num_old == 6
    assert third.replay[0].shard.new is None


def test_nothing_to_train_forms_no_round():
    ledger, _ = ledger_of([[{"a": 5}]], TrainSettings())
    evaluation = shard("eval/x", {"a": 3}, split="eval")
    vanished = shard("0-0", {"a": 4}, new=(), new_labels={})
    for new in ([], [evaluation], [vanished]):
        assert next_round(ledger, new, [], TrainSettings(), 1000) is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 200))
def test_a_changed_number_of_epochs_never_undoes_what_is_done(before, after, example):
    _, (first, *_) = ledger_of([[{"a": 5}]], TrainSettings(epochs=before))
    done = Progress(round=1, example=min(example, before * 5))
    goal = target(first, TrainSettings(epochs=after), done)
    assert goal.num_examples >= done.example
    assert goal.num_epochs == max(after, -(-done.example // 5))


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"epochs": 10}, (2, 2)),
        ({"epochs": 11}, (3, 3)),
        ({"epochs": 3, "finetune_epochs": 7, "new_label_epochs": 2}, (7, 7)),
        ({"epoch_fraction": 1}, (10, 10)),
        ({"new_label_epochs": 2}, (2, 4)),
    ],
)
def test_a_later_round_lasts_a_fraction_and_more_where_it_brings_labels(settings, epochs):
    _, (first, known, new) = ledger_of([[{"a": 5}], [{"a": 5}], [{"b": 5}]], TrainSettings())
    assert (epochs_of(known, TrainSettings(**settings)), epochs_of(new, TrainSettings(**settings))) == epochs
    assert epochs_of(first, TrainSettings(**settings)) == settings.get("epochs", 10)


def test_settings_of_a_round_stay_as_they_were_but_for_its_length_and_those_of_now():
    before = TrainSettings(batch_size=8, learning_rate=0.5, epochs=3, weight_decay=0.1)
    today = TrainSettings(batch_size=64, learning_rate=0.1, epochs=9, weight_decay=0.2)
    held = settings_of(fields_of(before, "round"), today)
    assert (held.batch_size, held.learning_rate, held.epochs, held.weight_decay) == (8, 0.5, 9, 0.2)
    assert settings_of({"learning_rate": 0.5}, today).batch_size == TrainSettings().batch_size, "as if it came later"


def test_done_means_trained_and_evaluated():
    _, (first, *_) = ledger_of([[{"a": 5}]], TrainSettings(epochs=2))
    goal = target(first, TrainSettings(epochs=2), Progress())
    assert not is_done(Progress(round=1, example=9), goal, 0)
    assert not is_done(Progress(round=1, example=10, waits_for="evaluate"), goal, 0)
    assert is_done(Progress(round=1, example=10), goal, 0)


def test_a_replay_survives_its_line():
    drawn = Replay(shard=shard("x", {"a": 3}), picks={"a": (0, 2)})
    assert Replay.from_line(drawn.to_line()) == drawn


def test_a_short_round_takes_as_many_steps_as_asked_for():
    settings = TrainSettings(batch_size=32, min_epoch_steps=8, replay=0)
    _, made = ledger_of([[{"a": 400}], [{"a": 17}], [{"a": 3}]], settings)
    assert [round.settings["batch_size"] for round in made] == [32, 2, 1]


def test_a_later_round_has_its_own_batch_size():
    settings = TrainSettings(batch_size=32, batch_size_fraction=0.3, min_epoch_steps=8, replay=0)
    _, made = ledger_of([[{"a": 400}], [{"a": 400}], [{"a": 17}]], settings)
    assert [round.settings["batch_size"] for round in made] == [32, 10, 2]


@given(st.integers(1, 400), st.integers(0, 40))
def test_batches_are_as_large_as_the_steps_asked_for_allow(num_examples, num_steps):
    settings = TrainSettings(batch_size=32, min_epoch_steps=num_steps)
    _, made = ledger_of([[{"a": num_examples}]], settings)
    batch_size = made[0].settings["batch_size"]
    at_least = min(num_steps, num_examples)
    assert -(-num_examples // batch_size) >= at_least
    assert batch_size in (32, num_examples) or -(-num_examples // (batch_size + 1)) < at_least


@pytest.mark.parametrize(
    ("new", "replay", "drawn"),
    [
        ({"c": 1}, 1.0, {"a": 5, "b": 3}),
        ({"a": 4, "b": 1}, 0.1, {"a": 1, "b": 3}),
        ({"a": 4, "b": 6}, 0.1, {"a": 1}),
        ({"a": 4, "b": 6}, 0.5, {"a": 3, "b": 2}),
        ({"a": 7, "b": 7}, 0.1, {"a": 1}),
    ],
)
def test_few_new_examples_are_replayed_with_what_they_lack_of_every_label(new, replay, drawn):
    _, made = ledger_of([[{"a": 9, "b": 3}], [new]], TrainSettings(replay=replay, min_replay=5))
    assert {label: len(ordinals) for one in made[1].replay for label, ordinals in one.picks.items()} == drawn
    _, none = ledger_of([[{"a": 9}], [{"c": 1}]], TrainSettings(replay=0, min_replay=5))
    assert none[1].replay == ()


def test_new_labels_bring_more_old_examples_along():
    plan = [[{"a": 9, "b": 9}], [{"a": 4}], [{"c": 4}]]
    _, made = ledger_of(plan, TrainSettings(replay=0.5, new_label_replay=3.0))
    assert [round.num_old for round in made] == [0, 2, 6]
    for settings, num_old in (
        (TrainSettings(replay=0, new_label_replay=3.0, min_replay=2), [0, 0, 0]),
        (TrainSettings(replay=0.5, new_label_replay=0, min_replay=3), [0, 3, 0]),
        (TrainSettings(old_data="none", new_label_replay=3.0), [0, 0, 0]),
        (TrainSettings(old_data="all", new_label_replay=3.0), [0, 18, 22]),
        (TrainSettings(replay=1e308, new_label_replay=1e308), [0, 18, 22]),
    ):
        assert [round.num_old for round in ledger_of(plan, settings)[1]] == num_old


@pytest.mark.parametrize(
    ("num_shards", "num_examples", "num_windows"), [(1000, 1000, 1), (2000, 10_000, 20), (3, 2**21, 3)]
)
def test_windows_hold_no_more_examples_than_are_shuffled_together(num_shards, num_examples, num_windows):
    """A round of fewer has the windows that its cache allows, a shard with more is one of its own."""
    shards = [shard(f"{number:04}", {"a": num_examples}) for number in range(num_shards)]
    round = next_round(Ledger(), shards, [], TrainSettings(), 2**40)
    assert round is not None
    loader = PassOrder(np.full(num_shards, num_examples), np.full(num_shards, 100), round.window_bytes, (0, 1, 0))
    assert loader.num_windows == num_windows
    assert (round.window_bytes == 2**40) == (num_shards * num_examples <= MAX_WINDOW_EXAMPLES)
    again = next_round(Ledger(), shards, [], TrainSettings(), round.window_bytes)
    assert again == round


@given(rounds)
def test_a_heading_tells_how_long_a_round_lasts(plan):
    settings = TrainSettings(replay=0.5, epochs=3, new_label_epochs=2)
    ledger, made = ledger_of(plan, settings)
    for number, round in enumerate(made, 1):
        done = Progress(round=number, example=1)
        assert target(ledger.heading(number), settings, done) == target(round, settings, done)


@given(st.integers(1, 400), st.integers(1, 400))
def test_a_later_round_has_the_steps_asked_for(num_old, num_new):
    settings = TrainSettings(epochs=10, epoch_fraction=0.2, batch_size=32, min_round_steps=20, replay=0)
    _, (first, second) = ledger_of([[{"a": num_old}], [{"b": num_new}]], settings)
    assert target(first, settings, Progress()).num_epochs == 10
    assert first.settings["batch_size"] == 32
    goal, size = target(second, settings, Progress()), second.settings["batch_size"]
    assert goal.num_epochs * -(-num_new // size) >= 20
    assert goal.num_epochs == max(2, -(-20 // num_new))
    by_number = settings.model_copy(update={"finetune_epochs": 1})
    _, (_, lone) = ledger_of([[{"a": num_old}], [{"b": num_new}]], by_number)
    assert (target(lone, by_number, Progress()).num_epochs, lone.settings["batch_size"]) == (1, 32)


@given(rounds, st.floats(0, 2))
def test_a_round_counts_what_it_trains_and_what_there_is(plan, replay):
    _, made = ledger_of(plan, TrainSettings(replay=replay))
    everything: dict[str, int] = {}
    for round in made:
        for one in round.shards:
            everything = {
                name: everything.get(name, 0) + one.labels.get(name, 0) for name in {*everything, *one.labels}
            }
        counts = round.label_counts()
        assert sum(trained for trained, _ in counts.values()) == round.num_new + round.num_old
        assert {name: known for name, (_, known) in counts.items()} == {name: everything[name] for name in counts}


@given(rounds, st.floats(0, 2), st.booleans())
def test_what_headers_tell_of_labels_is_what_the_shards_do(plan, replay, is_gone):
    settings = TrainSettings(replay=replay)
    ledger, _ = ledger_of(plan, settings)
    silent = [
        [{name: value for name, value in line.items() if name != TOTALS} for line in lines()] for lines in ledger.files
    ]
    older = Ledger(tuple(lambda lines=lines: iter(lines) for lines in silent))
    assert ledger.label_totals() is not None
    assert older.label_totals() is None
    edited = shard("0-0", {"a": 3, "b": 1}, new=(0,), new_labels={"a": 1})
    for new in ([shard("x", {"a": 3})], [edited]):
        told, counted = (next_round(one, new, ["0-0"] if is_gone else [], settings, 1000) for one in (ledger, older))
        assert told == counted
        assert told is not None
        assert (ledger.with_round(told.to_lines).label_totals() is None) == (is_gone or new == [edited])
