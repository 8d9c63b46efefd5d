"""Long films from a script: what it says, what is made and kept, and the film of it."""
