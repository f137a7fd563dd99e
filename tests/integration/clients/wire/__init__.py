"""The wire protocols of databases, brokers and others: as much of a server as a client needs."""
