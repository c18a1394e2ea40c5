"""A crowd of clients on this machine, and a server that tells what they cost it; used by benchmarks/soak.py."""
