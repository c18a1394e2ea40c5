"""Settings of XLA and the operating system, small files, and the form of programs that this machine gets."""
