"""Ends the process that imports it, after a last word on stderr."""

import os

os.write(2, b"the last word of ep_supervise_dies\n")
os._exit(7)
