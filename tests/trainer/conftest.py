"""What all tests of the trainer run under."""

import torch

torch.set_num_threads(1)  # networks this small are slower with more, and far slower where tests run side by side
