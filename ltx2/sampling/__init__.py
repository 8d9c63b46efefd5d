"""Sampling: sigma schedules, noise, guidance and samplers as pure functions over token tensors."""
