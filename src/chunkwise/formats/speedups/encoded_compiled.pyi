# The compiled twin has the face of the pure one.
from chunkwise.formats.speedups.encoded_pure import holds_null as holds_null
from chunkwise.formats.speedups.encoded_pure import line_ends as line_ends
