"""Ring buffers in shared memory, as byte streams and as a transport."""
