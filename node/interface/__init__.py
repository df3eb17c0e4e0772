"""HTTP: one route table, one parser for names, one shape of problem, one canonical form of an answer."""
