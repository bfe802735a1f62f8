# The compiled twin has the face of the pure one.
from chunkwise.formats.parsing.scanner import Scanner as Scanner
