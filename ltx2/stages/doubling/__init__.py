"""Rounds that double the frame rate of a finished clip: a temporal upsampler, and a few steps in tiles of time."""
