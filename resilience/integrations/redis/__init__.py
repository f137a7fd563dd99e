"""Redis and Valkey: the circuits of many processes follow what one of them finds out."""
