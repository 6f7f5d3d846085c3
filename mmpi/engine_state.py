"""Engine state: what an engine is built from, and what of it the journal's checkpoint holds.

Invariant: an engine made from the one and restored from the other acts the same. It must not know how an engine works.
"""

from mmpi.desk import DeskParams, DeskState
from mmpi.flatten import FlattenState
from mmpi.instrument import Nanos
from mmpi.reconciling import ReconcilingState
from mmpi.risk import GateState, RiskConfig
from mmpi.session import SessionPart
from mmpi.standing import StandingState
from mmpi.structs import Frozen, State
from mmpi.upkeep import MaybeUpkeep, UpkeepState


class EngineParams(Frozen, frozen=True):
    """What an engine is built from; the journal's checkpoint carries it."""

    cl_ord_prefix: str
    """"0x" + 4-byte instance id + 4-byte run epoch, in hex (I2)."""
    desks: "tuple[DeskParams, ...]"
    risk: RiskConfig
    patience: Nanos
    """An order unanswered for this long has an unknown fate; longer than any request can stay valid."""
    upkeep: "MaybeUpkeep" = None
    """What the venue offers and asks for; None = a simulated exchange."""


class EngineState(State, frozen=True):
    """An Engine as plain values; what the journal's checkpoint holds."""

    desks: "dict[str, DeskState]"
    gate: GateState
    standing: StandingState
    upkeep: UpkeepState
    reconciling: ReconcilingState
    flattening: FlattenState
    wake_at: Nanos
    blocked: str
    latch_asked: bool
    placement: "tuple[int, int]"
    counts: "tuple[int, int]"
    session: SessionPart
