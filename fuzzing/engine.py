"""A target's name and options of libFuzzer -> atheris runs that target; no other file needs atheris.

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
