"""The reference of `start.py`: read a checkpoint with torch, take two steps, and tell when. Nothing else."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.benchmarks.reported import report_and_stop

if __name__ == "__main__":
    checkpoint, data, report = map(Path, sys.argv[1:4])
    width = int(sys.argv[4])
    net = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    content = torch.load(checkpoint, weights_only=True)
    decayed = [parameter for parameter in net.parameters() if parameter.ndim >= 2]
    rest = [parameter for parameter in net.parameters() if parameter.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": rest}])
    net.load_state_dict(content["net"])
    optimizer.load_state_dict(content["optimizer"])
    del content
    examples = torch.from_numpy(np.loadtxt(data, delimiter=",", dtype=np.float32))
    for batch in examples.split(32)[:2]:
        optimizer.zero_grad()
        loss = (net(batch).squeeze(1) - batch.sum(1)).square().sum() / len(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    report_and_stop(report)
