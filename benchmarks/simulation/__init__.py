"""A fleet and an outage on virtual time: the code of the package, and models of what is around it.

Run are the breakers, the shared circuits, the lanes and the answers of the store's script, in its
Python twin. Pretended are the clock, the network, the time that a server needs, and the calls.
"""
