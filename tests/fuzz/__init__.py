"""Every reader on mutated input: only errors of our own come out, in one short line, and memory stays bounded."""
