"""When a process that died starts again: pauses that grow, and an end of patience."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mbats.live.hosting.restarts import LONGEST_PAUSE, MOST_DEATHS, STABLE, WINDOW, Restarts, after_end

LUCK = st.floats(0, 1, exclude_max=True)


def end(restarts, now, *, lived=0.0, died=True, luck=0.5):
    return after_end(restarts, now, lived=lived, died=died, luck=luck)


def test_pauses_double_up_to_a_minute():
    restarts, pauses, now = Restarts(), [], 0.0
    for _ in range(9):
        restarts, pause = end(restarts, now)
        pauses.append(pause)
        now += 100  # so far apart that they are no loop

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert restarts.count == 9


def test_the_fifth_death_within_a_minute_is_the_last():
    restarts, now = Restarts(), 0.0
    for _ in range(4):
        restarts, pause = end(restarts, now)
        assert pause is not None
        now += WINDOW / 5

    assert end(restarts, now)[1] is None


def test_five_deaths_in_more_than_a_minute_are_no_loop():
    restarts = Restarts()
    for now in (0.0, 15.0, 30.0, 45.0, 60.0):
        restarts, pause = end(restarts, now)

    assert pause is not None


def test_a_broker_that_is_away_is_waited_for_for_ever():
    restarts = Restarts()
    for now in range(200):
        restarts, pause = end(restarts, now / 10, died=False)
        assert pause is not None

    assert end(restarts, 20.0)[1] is not None, "and what was no death is not counted as one later"


def test_a_long_life_makes_the_next_pause_short_again():
    restarts = Restarts()
    for now in range(0, 600, 100):
        restarts, _ = end(restarts, now)

    assert end(restarts, 10_000, lived=STABLE)[1] == 1
    assert end(restarts, 10_000, lived=STABLE - 1)[1] == 60


@given(st.lists(st.tuples(st.floats(0, 500), st.booleans(), st.floats(0, 600), LUCK), max_size=40))
def test_whatever_happens_a_pause_is_bounded_and_only_deaths_in_a_row_end_it(history):
    restarts, now, deaths = Restarts(), 0.0, []
    for passed, died, lived, luck in history:
        now += passed
        deaths += [now] if died else []
        restarts, pause = end(restarts, now, died=died, lived=lived, luck=luck)
        in_window = sum(1 for death in deaths if now - death < WINDOW)
        assert (pause is None) == (in_window >= MOST_DEATHS)
        if pause is None:
            return
        assert 0.75 <= pause <= LONGEST_PAUSE * 1.25
