"""Adapters (LoRA and its kin): names, scales, kinds."""
