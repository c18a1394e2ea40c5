"""What must be said to XLA and the operating system before and while a model runs."""
