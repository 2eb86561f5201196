"""Random weights that keep a signal's variance: pictures have contrast, and what goes in shows in what comes out."""

import torch

LOOKED_UP = ("token_embedding", "position_embedding", "embed_tokens", "shared", "class_embedding")
"""Embeddings: a row of them is looked up, not summed over."""


@torch.no_grad()
def lively(module, seed=0):
    """The module with such weights, ready to be used: one that was only built would still drop out at random."""
    random = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            summed = 1 if any(part in name for part in LOOKED_UP) else parameter[0].numel()
            # Random cross-attention averages a prompt away: stronger, other words give another picture.
            parameter.normal_(0, (3 if "attn2" in name else 1) * summed**-0.5, generator=random)
        else:
            parameter.fill_(1 if name.endswith("weight") else 0)
    return module.eval()
