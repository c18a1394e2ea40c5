"""Which models there are, and the one that is served."""
