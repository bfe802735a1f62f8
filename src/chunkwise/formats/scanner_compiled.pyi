# The compiled twin has the face of the pure one.
from chunkwise.formats.scanner_pure import Scanner as Scanner
