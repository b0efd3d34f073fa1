"""Tell flowers apart by four lengths: lines of a .csv file with numbers and, last, the name of the species."""

import torch
from torch import nn

from trainer.compressed import open_shard
from trainer.metrics import classification_scores
from trainer.nn.growing import GrowingLinear
from trainer.task import Task


class Iris(Task):
    suffixes = (".csv",)
    best_metric = "accuracy"

    def read(self, path):  # the examples of a shard, as a sequence; .csv.gz, .csv.zst ... are opened too
        with open_shard(path) as lines:
            rows = [line.decode().split(",") for line in lines]
        return [([float(value) for value in values], species.strip()) for *values, species in rows]

    def label(self, example):  # what the vocabulary learns, and what old data is balanced by
        return example[1]

    def build(self, vocabulary):  # labels that a later round brings become a new block of the last layer
        return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), GrowingLinear(32, vocabulary.block_sizes("label")))

    def collate(self, examples, vocabulary, seeds):
        ids = vocabulary.ids("label")
        return torch.tensor([values for values, _ in examples]), torch.tensor([ids[name] for _, name in examples])

    def loss(self, net, batch):
        return nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="sum")

    def predict(self, net, batch):
        return torch.stack([batch[1], net(batch[0]).argmax(dim=1)], dim=1).tolist()

    def scores(self, predictions, vocabulary):
        targets, predicted = torch.tensor(predictions).T.tolist()
        return classification_scores(targets, predicted, vocabulary.names("label"))
