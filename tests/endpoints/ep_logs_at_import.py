"""Logs a line when it is imported, as many a module does."""

import logging

logging.getLogger("shop").info("imported")
