"""``sys.argv`` -> a command that runs, and its exit code. Data goes to stdout, messages go to stderr."""

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
    gc.freeze()  # skipping the imported modules in garbage collection makes a command a sixth faster
    sys.exit(run(sys.argv[1:]))
