"""AF_UNIX sockets (unix(7))."""
