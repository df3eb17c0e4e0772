"""Benchmarks that others can run: each figure with its floor from the same run, and peers beside it.

A figure alone says more of the machine than of the program. So each is measured together with what nothing on that
machine could beat (the bare rows put into LMDB, a bare server on the same library) and printed as a ratio.
"""
