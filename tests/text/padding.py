"""Prompts as the released pipelines feed them: padded on the left with id 0 to 1024."""

import torch

from ltx2.text.tokenizer import MAX_TOKENS


def padded_ids(rows):
    """Ids and mask (1 = a token of the prompt), [B, 1024] each."""
    ids = torch.zeros(len(rows), MAX_TOKENS, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, MAX_TOKENS - len(row) :] = torch.tensor(row)
        mask[index, MAX_TOKENS - len(row) :] = 1
    return ids, mask
