# The compiled twin has the face of the pure one.
from chunkwise.formats.speedups.utf8_pure import whole_bytes as whole_bytes
