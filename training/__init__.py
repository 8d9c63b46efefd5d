"""How the demonstration model of ``ltx2/mini`` is made: a small world, codecs in closed form, a transformer, the file.

Not part of the pack. ``python -m training`` makes everything; see README.md beside this file.
"""
