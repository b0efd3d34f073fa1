"""The reference of `start.py`: read a checkpoint with torch, take two steps, and tell when. Nothing else."""

import sys
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.wide_task import Wide, WideSettings, report_and_stop
from trainer.vocabulary import Vocabulary

if __name__ == "__main__":
    checkpoint, data, report = map(Path, sys.argv[1:4])
    task = Wide()
    task.settings = WideSettings(width=int(sys.argv[4]))
    net = task.build(Vocabulary())
    content = torch.load(checkpoint, weights_only=True)
    decayed = [parameter for parameter in net.parameters() if parameter.ndim >= 2]
    rest = [parameter for parameter in net.parameters() if parameter.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": rest}])
    net.load_state_dict(content["net"])
    optimizer.load_state_dict(content["optimizer"])
    examples = torch.from_numpy(np.asarray(task.read(data)))
    for batch in examples.split(32)[:2]:
        optimizer.zero_grad()
        (task.loss(net, batch) / len(batch)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    report_and_stop(report)
