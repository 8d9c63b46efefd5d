"""Weight files: what they hold, and networks out of them."""
