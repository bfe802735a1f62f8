"""Run a fuzz target with atheris, which uses libFuzzer. Only this file imports atheris.

Usage: `python -m fuzzing.engine TARGET FOLDER... [options of libFuzzer]`.
"""

import sys

import atheris

with atheris.instrument_imports(include=["chunkwise"]):
    from fuzzing.targets import TARGETS

if __name__ == "__main__":
    program, name, *arguments = sys.argv
    atheris.Setup([program, *arguments], TARGETS[name])
    atheris.Fuzz()
