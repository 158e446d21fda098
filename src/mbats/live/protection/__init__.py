"""Every lot has exactly the stop and target that it must have; orders in forms that the broker lacks, the trader watches."""

from mbats.live.protection.actions import (
    Action,
    ArmedTarget,
    Attach,
    CancelOrder,
    MoveStop,
    Naked,
    PlaceStop,
    Plan,
    net_stop_name,
    protector_name,
)
from mbats.live.protection.armed import Armed, Fire, arm, is_over, is_reached, observe
from mbats.live.protection.planning import naked, net_stops, plan
from mbats.live.protection.trailing import Levels, follow

__all__ = [
    "Action",
    "Armed",
    "ArmedTarget",
    "Attach",
    "CancelOrder",
    "Fire",
    "Levels",
    "MoveStop",
    "Naked",
    "PlaceStop",
    "Plan",
    "arm",
    "follow",
    "is_over",
    "is_reached",
    "naked",
    "net_stop_name",
    "net_stops",
    "observe",
    "plan",
    "protector_name",
]
