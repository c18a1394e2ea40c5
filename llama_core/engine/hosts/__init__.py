"""One engine on several hosts: the first takes the requests and says what every program is called with, the others
follow. Part of the folder above."""
