"""The shell of one region's node: HTTP on quart-trio and hypercorn, gossip on httpx, configuration, command line.

What the node decides lies below, in `replication`; here is what waits, listens and calls.
"""
