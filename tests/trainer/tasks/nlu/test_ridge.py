"""The second opinion on intents: a regression on all messages ever taken in."""

import torch
from torch import Tensor
from torch.nn.functional import gelu

from tests.trainer.tasks.nlu.encoders import write_encoder
from trainer.settings import TrainSettings
from trainer.state import grown, new_state
from trainer.task import make_task
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.ridge import PENALTY, WEIGHT, RidgeHead
from trainer.vocabulary import Vocabulary

NUM, WIDTH, FEATURES = 60, 6, 12
CPU = torch.device("cpu")


def told() -> tuple[Tensor, Tensor]:
    """Sentences of length 1, and which of four intents each is; some are none."""
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(NUM, WIDTH), dim=1), torch.arange(NUM) % 5 - 1


def head_of(parts: list[slice], block_sizes: list[int]) -> RidgeHead:
    head = RidgeHead(WIDTH, block_sizes, {}, FEATURES)
    sentences, targets = told()
    for part in parts:
        head.take_in(sentences[part], targets[part])
    return head.eval()


def test_it_is_ridge_regression_on_random_features():
    head = head_of([slice(NUM)], [4])
    sentences, targets = (rows[told()[1] >= 0] for rows in told())
    features = gelu(sentences @ head.projection).double()
    mean, wanted = features.mean(dim=0), WEIGHT * torch.eye(4, dtype=torch.float64)[targets]
    rest = (features - mean).T @ (features - mean)
    ridge = PENALTY * (features - mean).square().mean() * torch.eye(FEATURES)
    weight = torch.linalg.inv(rest + ridge) @ (features - mean).T @ (wanted - wanted.mean(dim=0))
    expected = (features - mean) @ weight + wanted.mean(dim=0)
    torch.testing.assert_close(head(sentences).double(), expected, atol=1e-4, rtol=0)


def test_rounds_in_any_order_give_what_all_at_once_gives():
    halves = [slice(0, 20), slice(20, NUM)]
    expected = head_of([slice(NUM)], [4])(told()[0])
    for parts in (halves, halves[::-1]):
        torch.testing.assert_close(head_of(parts, [1, 3])(told()[0]), expected, atol=1e-4, rtol=0)


def test_what_was_not_taken_in_says_nothing_and_moves_nothing():
    assert RidgeHead(WIDTH, [2], {}, FEATURES).eval()(told()[0]).count_nonzero() == 0
    old, larger = head_of([slice(NUM)], [4]), RidgeHead(WIDTH, [4, 2], {}, FEATURES)
    larger.load_state_dict(old.state_dict(), strict=False)
    said = larger.eval()(told()[0])
    torch.testing.assert_close(said[:, :4], old(told()[0]), atol=1e-5, rtol=0)
    assert said[:, 4:].count_nonzero() == 0
    lone = RidgeHead(WIDTH, [1], {}, FEATURES)
    lone.take_in(told()[0][:1], torch.tensor([0]))
    assert lone.eval()(told()[0]).isfinite().all()


def test_what_was_taken_in_of_a_merged_intent_counts_for_the_other():
    sentences, targets = told()
    parted, whole = RidgeHead(WIDTH, [4], {3: 1}, FEATURES), RidgeHead(WIDTH, [4], {}, FEATURES)
    parted.take_in(sentences, targets)
    whole.take_in(sentences, torch.where(targets == 3, 1, targets))
    torch.testing.assert_close(parted.eval()(sentences), whole.eval()(sentences), atol=1e-4, rtol=0)
    assert parted(sentences)[:, 3].count_nonzero() == 0


def test_messages_that_are_all_alike_tell_nothing_of_others():
    head = RidgeHead(WIDTH, [3], {}, FEATURES)
    sentences, _ = told()
    for number in range(21):
        head.take_in(sentences[:1], torch.tensor([number % 3]))
    assert head.eval()(sentences).abs().max() <= WEIGHT


def test_many_intents_are_solved_for_in_parts(monkeypatch):
    expected = head_of([slice(NUM)], [4])(told()[0])
    monkeypatch.setattr("trainer.tasks.nlu.ridge.SOLVED_AT_ONCE", 3)
    torch.testing.assert_close(head_of([slice(NUM)], [4])(told()[0]), expected)


def test_solving_leaves_what_was_taken_in_as_it_was():
    head = RidgeHead(WIDTH, [4], {3: 1}, FEATURES).double()
    head.take_in(told()[0].double(), told()[1])
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    head.eval()
    assert all(tensor.equal(before[name]) for name, tensor in head.state_dict().items())


def test_only_beside_a_regression_later_rounds_are_short(tmp_path):
    settings = {"encoder": str(write_encoder(tmp_path / "encoder"))}
    beside, diet = (make_task("nlu", {**settings, **more}).preferred() for more in ({}, {"architecture": "diet"}))
    alone = make_task("nlu", {}).preferred()
    assert (beside["new_label_epochs"], diet["new_label_epochs"], alone["new_label_epochs"]) == (0, 1, 1)
    assert beside["replay"] < diet["replay"] < alone["replay"]
    assert beside["epochs"] == diet["epochs"] < alone["epochs"]


def test_the_projection_is_the_same_for_good():
    projection = RidgeHead(WIDTH, [1], {}, FEATURES).projection
    assert projection.unique().tolist() == [-1, 1]
    assert (projection[0] > 0).int().tolist() == [0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1]


def test_a_round_is_taken_in_once_and_intents_are_raised_by_it(tmp_path):
    task = make_task("nlu", {"encoder": str(write_encoder(tmp_path / "encoder"))})
    first = [Message("send money", "pay"), Message("hello", "greet"), Message("my friend")]
    settings = TrainSettings()
    state = new_state(task, task.grow(Vocabulary(), [], first), settings, CPU)
    task.begin_round(state.net, state.vocabulary, iter(first))
    second = [Message("my card", "block")]
    larger = grown(state, task, task.grow(state.vocabulary, [], second), settings)
    ridge = larger.net.ridge
    assert ridge.products[-1, -1] == 2, "a message without intent tells nothing"
    task.begin_round(larger.net, larger.vocabulary, iter(second))
    assert [sums[:, -1].tolist() for sums in (ridge.sums0, ridge.sums1)] == [[1, 1], [1]]
    batch = task.collate([*first, *second], larger.vocabulary, None)
    net = larger.net.eval()
    raised = ridge(batch.inputs.dense)
    assert raised[0].argmax() == larger.vocabulary.ids("intent")["pay"] and raised[3].argmax() == 2
    ridge.weight.zero_()
    ridge.bias.zero_()
    torch.testing.assert_close(net(batch.inputs).logits["intent"] + raised, _logits(task, larger, batch))


def _logits(task, larger, batch):
    again = task.build(larger.vocabulary)
    again.load_state_dict(larger.net.state_dict())
    return again.eval()(batch.inputs).logits["intent"]
