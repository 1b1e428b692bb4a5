"""TCP inside TLS."""
