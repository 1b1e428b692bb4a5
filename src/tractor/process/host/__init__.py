"""Which host this is, by whose numbers and clock what is told by others counts."""
