"""Vectors are sets of dots: join is union, cut is intersection, includes is inclusion."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from crdt.dot import Dot
from crdt.version_vector import covers, cut, includes, join

vectors = st.dictionaries(st.sampled_from("abc"), st.integers(1, 4))
DOTS = [Dot(origin, seq) for origin, seq in product("abc", range(1, 6))]


def dots(vector: dict[str, int]) -> set[Dot]:
    return {dot for dot in DOTS if covers(vector, dot)}


@given(vectors, vectors)
def test_join_is_union(left: dict[str, int], right: dict[str, int]) -> None:
    assert dots(join(left, right)) == dots(left) | dots(right)
    assert join(left, right) == join(right, left)


@given(vectors, vectors)
def test_cut_is_intersection(left: dict[str, int], right: dict[str, int]) -> None:
    assert dots(cut(left, right)) == dots(left) & dots(right)


@given(vectors, vectors)
def test_includes_is_inclusion(left: dict[str, int], right: dict[str, int]) -> None:
    assert includes(left, right) == (dots(right) <= dots(left))


def test_a_dot_reads_as_origin_and_seq() -> None:
    assert str(Dot("eu-west.5f2c9a10", 12)) == "eu-west.5f2c9a10.12"
