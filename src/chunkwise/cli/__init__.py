"""The start of the command line: run the command in ``sys.argv``, and exit with its exit code."""

import gc
import sys


def main() -> None:
    """Run the command line, and exit with its exit code."""
    try:
        import rich  # noqa: F401 - only checks the extra; parts of rich are imported when they are needed

        from chunkwise.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "rich_click", "click"):
            raise
        print("chunkwise: the command line needs the extra 'cli': pip install 'chunkwise[cli]'", file=sys.stderr)
        sys.exit(2)
    # From here on, garbage collection skips the imported modules, which makes a command a sixth faster.
    gc.freeze()
    sys.exit(run(sys.argv[1:]))
