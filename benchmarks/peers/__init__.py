"""Other engines as processes of their own, measured beside ours."""
