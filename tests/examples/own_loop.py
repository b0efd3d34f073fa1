"""A training loop of one's own that continues where it stopped: run it, interrupt it, run it again."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import perdure

torch.manual_seed(0)  # the same network at every start
digits = load_digits()
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

with perdure.Run(sys.argv[1], net=net, optimizer=optimizer, best_metric="accuracy") as run:
    for epoch in run.epochs(20):  # the epochs that are left
        net.train()
        order = torch.randperm(1500, generator=torch.Generator().manual_seed(epoch))  # a function of the epoch
        for batch in run.batches(order.split(32)):  # the batches that are left of this epoch
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        right = net(images[1500:]).argmax(1) == labels[1500:]
        run.note(loss=loss.item(), accuracy=right.float().mean().item())
