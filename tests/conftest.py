"""Small CPU tensors everywhere: one thread each is fastest, and the same result on every machine."""

import torch

torch.set_num_threads(1)
