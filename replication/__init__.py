"""The replica: events and their codec, the log and cells on LMDB, the synchronous turn, the exchange of messages.

Bytes and arguments in, bytes and results out. No HTTP, no trio, no thread, no clock, no chance.
"""
