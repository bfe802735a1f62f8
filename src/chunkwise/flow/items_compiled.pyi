# The compiled twin has the face of the pure one.
from chunkwise.flow.items_pure import Items as Items
