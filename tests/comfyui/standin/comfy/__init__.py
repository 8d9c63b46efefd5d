"""A small stand-in for the host, for the tests: the parts of its surface that the pack touches, doing the same on the
CPU."""
