"""AF_NETLINK."""
