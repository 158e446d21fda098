"""What the whole platform takes of the machine when it has done its first work and rests."""

from __future__ import annotations

MOST = 8 * 1024  # megabytes: the smallest machine that it is meant for


def test_the_platform_at_rest_leaves_room_on_a_small_machine(stack, capsys):
    taken = stack.memory()

    with capsys.disabled():
        print(f"\nMemory of the platform at rest ({stack.name}): {sum(taken.values()):,.0f} MB")
        for name, megabytes in sorted(taken.items(), key=lambda item: -item[1]):
            print(f"    {name:<22} {megabytes:6,.0f} MB")
    assert sum(taken.values()) < MOST / 2, "as much again is for the work itself and for the machine"
