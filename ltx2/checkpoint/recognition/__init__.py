"""What a file is that is no model of ours: told by its first bytes or its tensors' names, so that people know what they
have."""
