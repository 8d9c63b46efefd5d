"""Prompts: tokenizers, the Gemma that reads them, and one that writes them."""
