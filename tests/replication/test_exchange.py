"""What a peer lacks, in an order it can apply; what it will not take does not crowd out the rest."""

from collections.abc import Callable
from dataclasses import replace

from replication.admission import LeftOut
from replication.command import Command, Draft
from replication.event import Encoded
from replication.event_codec import decode_header
from replication.exchange import claims, find_forks, heads_after, lacking
from replication.limits import LEFT_OUT_MAX, LEFT_OUT_RETRY_MS, SEQ_MAX
from replication.messages import Claim, Digest, Withheld
from replication.packing import pack
from replication.withheld import WithheldTransactions
from tests.helpers import NOW, Node, operations

Make = Callable[..., Node]


def sent(giver: Node, digest: Digest, limit: int = 1 << 20) -> list[str]:
    with giver.replica.read() as snapshot:
        headers = [decode_header(one[0].header) for one in lacking(snapshot, digest, limit)]
    return [f"{header.origin.split('.')[0]}{header.seq}" for header in headers]


def test_only_what_is_missing_is_sent_causes_first(node: Make) -> None:
    eu, us = node("eu"), node("us")
    eu.write("a", set={"n": 1})
    us.pull_all(eu)
    us.write("a", set={"n": 2})
    eu.pull_all(us)
    eu.write("a", set={"n": 3})
    assert sent(eu, Digest({}, 0)) == ["eu1", "us1", "eu2"]
    assert sent(eu, us.digest()) == ["eu2"]
    assert sent(eu, eu.digest()) == []
    assert sent(eu, Digest({}, 0), limit=1) == ["eu1"]


def test_heads_in_the_middle_of_a_transaction_bring_it_whole(node: Make) -> None:
    eu = node("eu")
    eu.run(Command(tuple(Draft(f"s/{n}", operations(set={"n": n})) for n in range(4))))
    origin = eu.replica.origin
    chain = eu.transactions()[0][1].chain
    assert sent(eu, Digest({origin: Claim(2, chain)}, 0)) == ["eu1"]
    assert sent(eu, Digest({origin: Claim(99, chain)}, 0)) == []


def test_what_a_peer_will_not_take_and_what_depends_on_it_is_skipped(node: Make) -> None:
    eu, us, ap = node("eu"), node("us"), node("ap")
    eu.write("a", set={"n": 1})
    us.pull_all(eu)
    us.write("b", set={"n": 1})
    ap.write("c", set={"n": 1})
    us.pull_all(ap)
    nothing = Digest({}, 0)
    assert sent(us, nothing) == ["eu1", "us1", "ap1"]
    held_back = replace(nothing, left_out=(Withheld(eu.replica.origin, 1, "held-back"),))
    assert sent(us, held_back) == ["ap1"]
    us.write("b", set={"n": 2})
    assert sent(us, held_back) == ["ap1"], "what follows on what depends on it"
    ap.write("c", set={"n": 2})
    us.pull_all(ap)
    assert sent(us, held_back) == ["ap1", "ap2"]


def test_a_forked_origin_is_not_sent(node: Make) -> None:
    eu, us = node("eu"), node("us")
    eu.write("a", set={"n": 1})
    us.pull_all(eu)
    us.write("b", set={"n": 1}, context={})
    digest = Digest({eu.replica.origin: Claim(1, b"x" * 16)}, 0)
    assert sent(us, digest) == ["us1"], "its writer had seen our eu1, of which the peer has another: it will say so"
    with us.replica.read() as snapshot:
        forks = find_forks(snapshot, digest)
    assert [(fork.origin, fork.seq) for fork in forks] == [(eu.replica.origin, 1)]
    with us.replica.read() as snapshot:
        told = find_forks(snapshot, replace(us.digest(), forks=forks))
    assert told == (), "the very same hash is no fork"


def test_a_fork_that_a_peer_names_is_one_here_too(node: Make) -> None:
    eu = node("eu")
    eu.write("a", set={"n": 1})
    with eu.replica.read() as snapshot:
        named = find_forks(snapshot, Digest({}, 0))
        assert named == ()
        from replication.messages import Fork

        digest = Digest({}, 0, forks=(Fork(eu.replica.origin, 1, b"x" * 16), Fork("xx.00000001", 1, b"x" * 16)))
        assert [(fork.origin, fork.seq) for fork in find_forks(snapshot, digest)] == [(eu.replica.origin, 1)]


def left(origin: str, reason: str, due_ms: int = 0) -> LeftOut:
    return LeftOut(origin, 1, reason, "why", due_ms)


def test_what_is_withheld_is_stated_until_it_is_due() -> None:
    withheld = WithheldTransactions()
    withheld.note([left("a", "held-back", NOW + 50), left("b", "fork"), left("c", "gap"), left("", "malformed")], NOW)
    assert [one.origin for one in withheld.stated(NOW)] == ["a", "b"]
    assert [one.origin for one in withheld.stated(NOW + 50)] == ["b"]
    assert withheld.stated(NOW + LEFT_OUT_RETRY_MS) == ()


def test_what_is_withheld_is_bounded() -> None:
    withheld = WithheldTransactions()
    first, *others, last = [left(str(place), "fork") for place in range(LEFT_OUT_MAX + 5)]
    newest = [*others, first, last]
    withheld.note([first, *newest], NOW)
    assert [one.origin for one in withheld.stated(NOW)] == [one.origin for one in newest[-LEFT_OUT_MAX:]]


NO_DOTS = (("nobody", 7), ("us.00000001", -1), ("us.00000001", SEQ_MAX + 1), ("us.00000001", 0))


def test_a_pull_goes_on_from_what_it_has_been_given(node: Make) -> None:
    """Heads after transactions are what their receiver states once it holds them, in whatever order they came."""
    eu, us = node("eu"), node("us")
    eu.run(Command((Draft("a", operations(set={"n": 1})), Draft("b", operations(set={"n": 1})))))
    eu.write("a", set={"n": 2})
    given = eu.transactions()
    assert heads_after({}, given) == heads_after({}, given[::-1]) == claims(eu.replica.mirror.heads)
    for junk in ((), (Encoded(b"\xc1", b""),), *[(Encoded(pack([1, 0, *dot]), b""),) for dot in NO_DOTS]):
        assert heads_after({}, [*given, junk]) == heads_after({}, given)
    assert heads_after({}, [(), *given]) == {}, "no further than it can be read"
    assert heads_after(claims(eu.replica.mirror.heads), given[:1]) == claims(eu.replica.mirror.heads)
    us.pull_all(eu)
    assert claims(us.replica.mirror.heads) == heads_after({}, given)
