"""``python -m chunkwise`` is the command line."""

from chunkwise.cli import main

if __name__ == "__main__":
    main()
