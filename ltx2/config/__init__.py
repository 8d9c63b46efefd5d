"""What each network looks like, from metadata or shapes, and the released versions."""
