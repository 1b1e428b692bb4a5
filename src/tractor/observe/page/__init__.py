"""The page of ``tractor dash``: a server in the command's own process, and what it shows."""
