"""`python -m web.space`: the app as a Hugging Face Space, made and kept up to date by one command."""
