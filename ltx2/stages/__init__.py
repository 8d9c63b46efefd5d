"""The stages from a request to frames and sound, one file each in the order they run; plain functions over frozen
values."""
