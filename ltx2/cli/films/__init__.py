"""Verbs that change a film that is there."""
