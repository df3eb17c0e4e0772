"""The partition simulator: whole clusters of the production code in one process, under virtual time.

A plan says beforehand what will be done: links, faults, operations, all drawn from a seed (`plans`). The world does
it to machines that run the real node on simulated clocks, entropy, links and disks (`world`). Checkers that share no
code with the product watch every commit and every answer (`checkers`). A search runs many seeds, a case that breaks a
promise is made small, and a report draws it. Sabotages, known bugs, check the checkers.

The same plan leaves the same trace. Sources: FoundationDB's simulation (Zhou et al. 2021, section 4), Jepsen's
checkers (Kingsbury), swarm testing (Groce et al. 2012), delta debugging (Zeller and Hildebrandt 2002).
"""
