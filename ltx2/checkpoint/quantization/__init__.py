"""Weights in storage formats: found in files, kept small in memory, turned back when they are used."""
