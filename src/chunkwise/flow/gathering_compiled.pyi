# The compiled twin has the face of the pure one.
from chunkwise.flow.gathering_pure import gather_items as gather_items
