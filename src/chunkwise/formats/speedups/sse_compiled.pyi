# The compiled twin has the face of the pure one.
from chunkwise.formats.speedups.sse_pure import event_texts as event_texts
