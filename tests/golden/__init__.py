"""Golden values: small random weights in the released layouts with the outputs the official code gives for them."""

from pathlib import Path

LIMIT = 1e-4
DATA = Path(__file__).parent / "data"
