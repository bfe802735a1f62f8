"""The command line. Data goes to stdout, all else to stderr."""

import gc
import sys


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        import rich  # noqa: F401 - its parts are imported later, if they are needed at all

        from chunkwise.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "rich_click", "click"):
            raise
        print("chunkwise: the command line needs the extra 'cli': pip install 'chunkwise[cli]'", file=sys.stderr)
        sys.exit(2)
    gc.freeze()  # the modules stay until the end: without looking through them, a command takes a sixth less time
    sys.exit(run(sys.argv[1:]))
