"""LTX-2 Continuum's engine: long video with sound on LTX-2, in plain PyTorch."""

__version__ = "0.1.0"
