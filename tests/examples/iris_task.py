"""A task of one's own: tell iris flowers apart. A shard is a .csv file of lines like `5.1,3.5,1.4,0.2,setosa`."""

import smart_open
import torch
from torch import nn

from perdure import GrowingLinear, Task


class Iris(Task):
    suffixes = (".csv",)  # which files are shards; .csv.gz, .csv.zst, .csv.bz2 and .csv.xz then are, too
    best_metric = "accuracy"  # the score that tells the best checkpoint

    def read(self, path):  # the examples of one shard: anything with a length and an index
        with smart_open.open(path) as lines:
            rows = [line.strip().split(",") for line in lines]
        return [([float(number) for number in numbers], species) for *numbers, species in rows]

    def label(self, example):  # the labels seen so far are the vocabulary
        return example[1]

    def build(self, vocabulary):  # new labels of a later round become new outputs; the old ones stay as they are
        return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), GrowingLinear(32, vocabulary.block_sizes("label")))

    def collate(self, examples, vocabulary, seeds):  # examples -> a batch; `seeds` are for random augmentation
        ids = vocabulary.ids("label")
        return torch.tensor([numbers for numbers, _ in examples]), torch.tensor([ids[label] for _, label in examples])

    def loss(self, net, batch):  # summed over the examples
        return nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="sum")

    def predict(self, net, batch):  # one item per example: whether it is right
        return (net(batch[0]).argmax(1) == batch[1]).tolist()

    def scores(self, predictions, vocabulary):  # of any number of such items
        return {"accuracy": sum(predictions) / len(predictions)}
