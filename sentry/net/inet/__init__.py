"""AF_INET and AF_INET6."""
