"""The transports: TCP, TLS, Unix sockets, memory, and those of other packages."""
