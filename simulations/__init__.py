"""The partition simulator's place: whole clusters of the production code under virtual time. Nothing is here yet."""
