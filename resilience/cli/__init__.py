"""Commands for operators: what the circuits of running processes do, and changing them by hand.

`commands` is the command line. It speaks to a `target`: to the store that processes share
(`store_target`), or to the status page of one process (`page_target`).
"""
