"""What FastVideo's public tests of continuation, stores, overrides and presets ask of an implementation, asked of
ours."""
