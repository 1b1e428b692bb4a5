"""The roads that messages travel by: TCP, TLS, Unix sockets, memory, and those of other packages."""
