"""The world itself: time, chance, the guard, torn disks, the network, and what its parts promise."""

import importlib
import logging
import random
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from replication.command import Command, Draft
from replication.replica import Replica
from replication.verify import verify
from simulations.draws import generator, uniform, uniforms
from simulations.plans.drawing import Recipe, region_names
from simulations.plans.plan import Fault, Operation, Point
from simulations.world.disk import META_PAGES, PAGE_BYTES, tear
from simulations.world.guard import PastASeam, guarded
from simulations.world.mistakes import mistakes
from simulations.world.run import simulate
from simulations.world.virtual_time import EPOCH_MS, MachineClock, VirtualTime, run
from tests.helpers import operations
from tests.simulations.two_regions import TWO, write

# --- time and chance


def test_time_jumps_and_the_order_of_one_instant_is_the_seed_s() -> None:
    def order(seed: int) -> list[tuple[float, str]]:
        clock, met = VirtualTime(), []

        async def step(name: str) -> None:
            for second in (1_000, 2_000, 3_000, 4_000, 5_000):
                await trio.sleep_until(second)
                met.append((trio.current_time(), name))

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(step, name)

        run(seed, clock, main)
        return met

    began = time.monotonic()
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(4)}) > 1
    assert time.monotonic() - began < 1_000  # of 30,000 s that were simulated


def test_a_machine_s_clock_drifts_jumps_and_is_set_right() -> None:
    passing = VirtualTime()
    clock = MachineClock(passing)
    passing.now = 10.0
    assert clock.now_ms() == EPOCH_MS + 10_000
    clock.run_at(1.5)
    passing.now = 12.0
    assert clock.now_ms() == EPOCH_MS + 13_000
    clock.run_at(1.0)
    clock.offset_ms = -500
    passing.now = 14.0
    assert clock.now_ms() == EPOCH_MS + 14_500
    clock.set_right()
    assert clock.now_ms() == EPOCH_MS + 14_000


def test_draws_follow_from_their_purpose_alone() -> None:
    assert uniform(1, "a", 2.5) == uniform(1, "a", 2.5) != uniform(2, "a", 2.5)
    assert uniforms(1, "x") == uniforms(1, "x")
    assert all(0 <= one < 1 for one in uniforms(1, "x"))
    assert generator(1, "x").random() == generator(1, "x").random()


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("time", "time", ()), ("time", "time_ns", ()), ("time", "monotonic", ()), ("time", "perf_counter", ()),
        ("time", "sleep", (0,)), ("os", "urandom", (4,)), ("uuid", "uuid4", ()), ("random", "random", ()),
    ],
)  # fmt: skip
def test_whoever_reaches_past_a_seam_ends_the_run(module: str, name: str, arguments: tuple[int, ...]) -> None:
    reached = importlib.import_module(module)
    with guarded(), pytest.raises(PastASeam, match=f"called .*{name}"):
        getattr(reached, name)(*arguments)
    getattr(reached, name)(*arguments)


def test_a_node_that_reads_the_machine_s_own_clock_breaks_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.gossip.Gossip.vectors", lambda gossip: {"eu.00000000": {"x": time.monotonic()}})
    [violation] = simulate(TWO).violations
    assert (violation.checker, violation.detail) == ("seam", "tests.simulations.test_world called time.monotonic")


def test_threads_and_the_system_s_entropy_are_past_a_seam_too() -> None:
    with guarded(), pytest.raises(PastASeam):
        threading.Thread(target=print).start()
    with guarded(), pytest.raises(PastASeam):
        random.SystemRandom().random()


def test_what_nodes_log_is_heard_again_after_a_simulation(caplog: pytest.LogCaptureFixture) -> None:
    log, said = logging.getLogger("atoll.gossip"), list[str]()
    with mistakes(said.append):
        log.warning("a peer lies")
        try:
            raise ValueError("of the node's")
        except ValueError:
            log.exception("a mistake")
    log.warning("a peer lies in earnest")
    assert caplog.messages == ["a peer lies in earnest"]
    assert [line.splitlines()[-1] for line in said] == ["ValueError: of the node's"]


def test_the_trace_is_the_same_in_any_process_and_at_any_hash_seed() -> None:
    arguments = ["--seed", "7", "--regions", "3", "--duration", "10s", "--operations", "80", "--json"]
    traces = set()
    for hash_seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-m", "node", "simulate", *arguments],
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        traces.add(done.stdout.partition('"trace":"')[2][:32])
    assert len(traces) == 1
    assert traces == {simulate(Recipe(region_names(3), 10.0, 80, None)(7)).history.trace}


# --- disks


def test_a_commit_torn_by_power_loss_leaves_the_state_before_it(workplace: Path) -> None:
    directory = workplace / "eu"
    replica = Replica.open(directory, region="eu", cluster="test", secret=b"s" * 32)
    states: list[tuple[bytes, int]] = []
    for number in range(12):
        states.append(((directory / "data.mdb").read_bytes(), replica.vector.get(replica.origin, 0)))
        made = operations(set={"n": number}, add={"m": [f"e{number}" * 40]})
        replica.turn([Command((Draft("s", made),))], 1_000 + number)
    replica.close()
    for number, ((before, held), (after, _)) in enumerate(pairwise(states)):
        rng = random.Random(number)
        image = tear(before, after, lambda *_, rng=rng: rng.random())
        assert image[: META_PAGES * PAGE_BYTES] == before[: META_PAGES * PAGE_BYTES]
        (directory / "data.mdb").write_bytes(image)
        report = verify(directory)
        assert report.problems == []
        assert report.events == held


def test_a_tear_keeps_some_pages_and_parts_of_pages() -> None:
    before, after = b"a" * PAGE_BYTES * 8, b"a" * PAGE_BYTES * 2 + b"b" * PAGE_BYTES * 6
    kinds = set()
    for number in range(20):
        rng = random.Random(number)
        image = tear(before, after, lambda *_, rng=rng: rng.random())
        pages = [image[start : start + PAGE_BYTES] for start in range(0, len(image), PAGE_BYTES)]
        kinds |= {"new" if set(page) == {98} else "old" if set(page) == {97} else "torn" for page in pages[2:]}
    assert kinds == {"new", "old", "torn"}


def test_the_disk_of_a_simulation_is_lmdb_itself() -> None:
    outcome = simulate(replace(TWO, operations=(write(0.5, "eu"), write(0.6, "us", 1))))
    assert outcome.violations == []
    assert outcome.verified == 2 * 4  # both writes, and the two that are made at the end, in both regions


# --- faults, one at a time


def test_a_cut_link_carries_nothing_and_a_healed_one_everything() -> None:
    faults = (Fault(0.4, "partition", 3.0, side=("eu",)),)
    outcome = simulate(replace(TWO, operations=(write(0.6, "eu"),), faults=faults))
    assert outcome.violations == []
    arrived = [commit.at for commit in outcome.history.commits if commit.region == "us" and commit.at < 60]
    assert arrived[0] > 3.4


def test_a_kill_before_the_commit_loses_what_nobody_was_told_of() -> None:
    faults = (Fault(0.5, "kill", 1.0, "eu", point="before"),)
    outcome = simulate(replace(TWO, operations=(write(0.6, "eu", key=True),), faults=faults))
    assert outcome.violations == []
    assert outcome.sometimes["a process died before its commit"] == 1
    assert outcome.sometimes["a client got no answer to a write that was not made"] == 1
    assert [answer.status for answer in outcome.history.answers] == [0, 201]


def test_a_kill_after_the_commit_loses_only_the_answer_and_a_retry_gets_it() -> None:
    faults = (Fault(0.5, "kill", 0.2, "eu", point="after"),)
    one = replace(TWO, regions=("eu",), links=(), operations=(write(0.6, "eu", key=True),), faults=faults)
    outcome = simulate(one)
    assert outcome.violations == []
    assert outcome.sometimes["a process died after its commit, before its answer"] == 1
    written = [event for commit in outcome.history.commits for event in commit.events if event.stream == "s"]
    assert len(written) == 1


@pytest.mark.parametrize(("point", "kept"), [("before", False), ("after", True)])
def test_a_write_that_is_not_asked_again_is_there_or_not_as_its_commit_was(point: Point, kept: bool) -> None:
    faults = (Fault(0.5, "kill", 0.2, "eu", point=point),)
    outcome = simulate(replace(TWO, operations=(write(0.6, "eu"),), faults=faults))
    assert outcome.violations == []
    assert [answer.status for answer in outcome.history.answers] == [0]
    assert bool(outcome.answers.get("s", {}).get("registers")) == kept


def test_a_restored_backup_goes_on_under_another_name() -> None:
    faults = (Fault(2.0, "restore", 0.5, "eu", amount=1.5),)
    writes = (write(0.1, "eu"), write(1.0, "eu"), write(3.5, "eu"))
    outcome = simulate(replace(TWO, operations=writes, faults=faults))
    assert outcome.violations == []
    origins = {event.origin for commit in outcome.history.commits for event in commit.events}
    assert len([origin for origin in origins if origin.startswith("eu.")]) == 2


def test_a_store_without_room_refuses_and_goes_on_when_there_is_some() -> None:
    faults = (Fault(0.5, "disk-full", 2.0, "eu"),)
    outcome = simulate(replace(TWO, operations=(write(0.6, "eu"), write(3.0, "eu")), faults=faults))
    assert outcome.violations == []
    assert [answer.status for answer in outcome.history.answers] == [507, 201]


def test_what_slows_a_disk_or_a_link_adds_up() -> None:
    """Multiplied, three at once would hold up one commit for longer than a healed cluster is given."""
    slow = tuple(Fault(at, "slow-disk", 3.0, "eu", amount=400.0) for at in (0.2, 0.3, 0.4))
    slow += tuple(Fault(at, "slow-link", 3.0, "eu", "us", amount=20.0) for at in (0.2, 0.3, 0.4))
    outcome = simulate(replace(TWO, operations=(write(0.6, "eu"),), faults=slow))
    assert outcome.violations == []
    [answer] = outcome.history.answers
    assert answer.status == 201
    assert 0.3 < answer.at - answer.asked < 1.0
    arrived = [commit.at for commit in outcome.history.commits if commit.region == "us"]
    assert 1.5 < arrived[0] < 4.0


def test_a_clock_that_is_far_behind_refuses_to_write() -> None:
    faults = (Fault(1.5, "clock-jump", 0.1, "us", amount=-45_000.0),)
    writes = (write(0.5, "eu"), write(2.0, "us", 1))
    outcome = simulate(replace(TWO, operations=writes, faults=faults))
    assert outcome.violations == []
    assert [answer.status for answer in outcome.history.answers] == [201, 503]


def test_a_cluster_that_cannot_agree_is_a_violation() -> None:
    apart = replace(TWO, links=(), operations=(write(0.5, "eu"),), duration=1.0)
    outcome = simulate(apart)
    assert [one.checker for one in outcome.violations] == ["liveness"]


def test_what_a_run_met_is_counted() -> None:
    forced = Operation(0.506, 0, "eu", "read", "s", after="session", wait=2.0)
    outcome = simulate(replace(TWO, operations=(write(0.5, "us"), forced, replace(forced, at=2.0))))
    assert outcome.violations == []
    assert outcome.sometimes["a read was forced, and waited"] == 1, "the second had nothing to wait for"
    assert outcome.sometimes["a forced read timed out"] == 0
    hasty = replace(TWO, operations=(write(0.5, "us"), replace(forced, wait=0.001)))
    outcome = simulate(hasty)
    assert outcome.violations == []
    assert outcome.sometimes["a read was forced, and waited"] == 0
    assert outcome.sometimes["a forced read timed out"] == 1
    assert outcome.sometimes["several writes shared one commit"] == 0
    together = [replace(write(0.5, "us"), client=number) for number in range(12)]
    assert simulate(replace(TWO, operations=tuple(together))).sometimes["several writes shared one commit"] > 0
