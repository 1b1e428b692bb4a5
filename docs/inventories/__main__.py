"""Write the inventories anew: ``python -m inventories`` in `docs/`."""

from inventories import write

if __name__ == "__main__":
    write()
