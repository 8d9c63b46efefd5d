"""Segments of a finished story made anew between their neighbours, which stay."""

from .bridges import Bridge, check_bridges, standing_bridges
from .ends import Ends, led_into

__all__ = ["Bridge", "Ends", "check_bridges", "led_into", "standing_bridges"]
