"""A fleet and an outage on virtual time.

The circuit breakers, the shared circuits, the protocol and, in its Python twin, the script of the
store are those of the package. The clock, the network, the server, the threads and the calls are
simulated.
"""
