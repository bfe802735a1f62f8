"""The tutorial of ``chunkwise demo``: its routes, the page that shows them, and clients that read them."""
