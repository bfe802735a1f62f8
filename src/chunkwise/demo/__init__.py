"""Room 4: what people learn streaming from: routes, the page that shows them, and clients that read them."""
