"""Parallel: one segment on several GPUs. Guidance passes over ranks first, then the picture's tokens over heads.

``torch.distributed`` alone is used: nccl on GPUs, gloo on CPUs. Every rank holds the whole transformer: what is split
is time, not memory.
"""
