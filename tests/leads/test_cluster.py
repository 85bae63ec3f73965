"""The graph of forwards: generations, growth and a picture that is always the same."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from leads.cluster import Edge, Generation, brokers, generations, growth, picture
from tests.conftest import MONDAY


def edge(pair: str, hour: int = 0, accepted: bool = False) -> Edge[str]:
    return Edge(pair[0], pair[1], MONDAY + timedelta(hours=hour), accepted)


FAMILY = [edge("AB", 1, True), edge("AC", 2), edge("BD", 3, True), edge("BE", 4), edge("CE", 5)]


def test_generations_are_counted_from_the_first_recipient() -> None:
    assert generations("A", FAMILY) == {"A": 0, "B": 1, "C": 1, "D": 2, "E": 2}
    assert growth("A", FAMILY) == [Generation(1, 2, 1), Generation(2, 2, 1)]
    assert brokers("A", FAMILY) == [("A", 4), ("B", 2)]


def test_people_stand_over_the_middle_of_those_they_brought() -> None:
    drawn = picture("A", FAMILY)
    where = {spot.person: (spot.x, spot.y) for spot in drawn.spots}
    assert where == {"A": (1.25, 0), "B": (0.5, 1), "C": (2, 1), "D": (0, 2), "E": (1, 2)}
    assert (drawn.width, drawn.height) == (3, 3)
    assert [line.inviter + line.invitee for line in drawn.lines if not line.first] == ["CE"]


def test_somebody_alone_is_a_picture_too() -> None:
    drawn = picture("A", [])
    assert (drawn.width, drawn.height, len(drawn.spots), drawn.lines) == (1, 1, 1, ())


def test_a_chain_of_thousands_is_drawn() -> None:
    chain = [Edge(i, i + 1, MONDAY) for i in range(5_000)]
    assert picture(0, chain).height == 5_001


_EDGES = st.lists(
    st.builds(
        lambda a, b, hour, ok: Edge(a, b, MONDAY + timedelta(hours=hour), ok),
        st.integers(0, 8), st.integers(0, 8), st.integers(0, 20), st.booleans(),
    ),
    max_size=25,
)  # fmt: skip


@given(_EDGES, st.randoms())
def test_any_graph_has_one_picture_whatever_the_order_of_its_edges(
    edges: list[Edge[int]], random: st.DataObject
) -> None:
    drawn = picture(0, edges)
    shuffled = list(edges)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = picture(0, shuffled)
    assert again.spots == drawn.spots
    places = [(spot.x, spot.y) for spot in drawn.spots]
    assert len(set(places)) == len(places)
    assert all(0 <= x < drawn.width and 0 <= y < drawn.height for x, y in places)
    assert {s.person: s.y for s in drawn.spots} == generations(0, edges)
    assert sum(g.invited for g in growth(0, edges)) == len(drawn.spots) - 1
