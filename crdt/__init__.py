"""What concurrent writes mean: pure functions over values, standard library only, no I/O, clock or chance.

`reference.resolve` is the definition; `fold.fold` is the incremental form that the store runs, and equals it.
"""
