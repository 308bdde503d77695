"""The only place that opens things: ports, links and files, and the drivers that join machines to them."""
