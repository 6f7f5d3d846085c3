"""The venue itself, without IO: signed actions in, answers and stream messages out.

Invariant: only an action whose signature, nonce, expiry and budget hold changes anything, and only in the account of
its signer or of a vault that this account leads. It must not know sockets, latency or the wall clock.
"""

from collections.abc import Mapping
from typing import Any, Final

from mmpi.errors import ConfigError
from mmpi.events import Mark, MarketEvent
from mmpi.instrument import Instrument, Nanos
from mmpi.practice.hyperliquid import messages, words
from mmpi.practice.hyperliquid.account import Account
from mmpi.practice.hyperliquid.balance_sheet import LEVERAGE, standing
from mmpi.practice.hyperliquid.execution import Execution
from mmpi.practice.hyperliquid.feed import Feed
from mmpi.practice.hyperliquid.funding import FundingDesk
from mmpi.practice.hyperliquid.messages import Json, SignedAction, UnprocessableError, done, millis, ok, refusal
from mmpi.practice.hyperliquid.nonces import Nonces
from mmpi.practice.hyperliquid.rules import DEFAULT, Rules
from mmpi.practice.hyperliquid.signatures import agent_digest, connection_id, recover
from mmpi.practice.hyperliquid.spot import PAIRS
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.views import control_order
from mmpi.practice.keys import Registry
from mmpi.sim.exchange import Matching, SimConfig

MAX_SIGNERS: Final = 100
"""Far above what a practice needs; with the registry's vaults it bounds the accounts, which only signers can open."""
BATCHES: Final = ("orders", "cancels", "modifies")
"""Where an action has its parts; each counts as a request."""
OMITTED_IF_FALSE: Final = frozenset({"a", "f"})
"""The venue hashes an action without them ("Exchange endpoint"), so whoever signed one of them has another address."""


class Venue:
    """Accounts in front of one simulated exchange."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        registry: Registry,
        hub: Hub,
        *,
        mainnet: bool,
        first_id: int,
        rules: Rules = DEFAULT,
    ) -> None:
        """`instruments` are the perpetuals; the spot pairs come to them.

        `first_id` is the first oid and tid; growing from one start to the next, it keeps them unique.
        """
        self.registry = registry
        self.perpetuals = instruments
        self._mainnet = mainnet
        self.rules = rules
        self._now: Nanos = 0
        everything = {**instruments, **{name: pair.instrument for name, pair in PAIRS.items()}}
        config = SimConfig(maker_fee_bps=rules.maker_fee_bps, taker_fee_bps=rules.taker_fee_bps)
        self._matching = Matching(everything, config, first_id)
        self.feed = Feed(everything, self._matching, hub, first_id)
        self.funding = FundingDesk(instruments, hub)
        self._accounts: dict[str, Account] = {}
        self._nonces: dict[str, Nonces] = {}
        self._perpetual_assets = tuple(instruments.values())
        assets = dict(enumerate(self._perpetual_assets)) | {pair.asset: pair.instrument for pair in PAIRS.values()}
        self._execution = Execution(assets, self._matching, self.feed, hub, self._accounts)

    def account(self, address: str) -> Account:
        """Return the account of an address; of one that has never acted, a fresh one that is not kept."""
        return self._accounts.get(address) or Account(address, self.rules)

    def live_orders(self) -> list[Json]:
        """Return every live order of every account, as `/control/orders` lists them."""
        return [control_order(order) for account in self._accounts.values() for order in account.open_orders()]

    def placed_log(self) -> list[Json]:
        """Return the latest accepted orders of all accounts, oldest first, as `/control/placed` lists them."""
        return self._execution.ledger.placed()

    def fill_log(self) -> list[Json]:
        """Return the latest fills of all accounts, oldest first, as `/control/fills` lists them."""
        return self._execution.ledger.filled()

    def states(self) -> Json:
        """Return the standing of each account that has acted, by its address, as `/control/state` shows it."""
        return {address: standing(account, self._now) for address, account in self._accounts.items()}

    def on_market(self, event: MarketEvent) -> None:
        """Let a market event fill orders, then show it to the public; what was due before it comes first."""
        self.tick(event.recv_ts)
        self._execution.settle(self._matching.on_market(event))
        if isinstance(event, Mark):
            self.funding.on_mark(event)
        self.feed.on_market(event)

    def tick(self, now: Nanos) -> None:
        """Do everything that is due by `now`: dead-man switches that fire, funding."""
        self._now = max(self._now, now)
        for account in self._accounts.values():
            if account.dead_man.fire(millis(now)):
                self._execution.cancel_all(account, now)
        self.funding.pay(self._accounts.values(), now)

    def act(self, body: Json, now: Nanos) -> Json:
        """Return the answer to a signed action; UnprocessableError if the body has not the form of one."""
        self.tick(now)
        request = messages.convert(body, SignedAction)
        signer = self._signer(request)
        try:
            master = self.registry.account(signer)
            if master is None or self._is_of_the_other_network(request, signer):
                return refusal(words.UNKNOWN_USER.format(address=signer))
            address, reason = master, self._use_nonce(signer, request.nonce, millis(now))
            if not reason:
                address, reason = self._acting(request, master)
        except ConfigError as error:
            return refusal(str(error))
        if reason:
            return refusal(reason)
        if address not in self._accounts:
            self._accounts[address] = Account(address, self.rules)
        account = self._accounts[address]
        if request.expires_after is not None and request.expires_after < millis(now):
            account.budget.stale(_count(request.action))
            return refusal(words.EXPIRED)
        try:
            action = messages.convert_action(request.action)
        except UnprocessableError as error:
            return refusal(words.INVALID_ACTION.format(why=error))
        cancels = isinstance(action, messages.CancelAction | messages.CancelByCloidAction)
        if reason := account.budget.spend(_count(request.action), account.volume, now, cancels=cancels):
            return refusal(reason)
        return self._execute(action, account, now)

    def _is_of_the_other_network(self, request: SignedAction, signer: str) -> bool:
        """Return whether an unknown signer is a known agent who signed for the wrong network.

        At the venue such a signature is somebody's who does not exist; here, where everybody may exist, the action
        would otherwise succeed in the name of a stranger.
        """
        registry = self.registry
        if registry.master(signer) is not None:
            return False
        return registry.master(self._signer(request, mainnet=not self._mainnet)) is not None

    def _signer(self, request: SignedAction, mainnet: bool | None = None) -> str:
        parts = request.action.items()
        hashed = {key: value for key, value in parts if value is not False or key not in OMITTED_IF_FALSE}
        try:
            connection = connection_id(hashed, request.nonce, request.vault_address, request.expires_after)
            signature = request.signature
            wanted = self._mainnet if mainnet is None else mainnet
            return recover(agent_digest(connection, mainnet=wanted), signature.r, signature.s, signature.v)
        except ValueError as error:
            raise UnprocessableError(str(error)) from None

    def _use_nonce(self, signer: str, nonce: int, now_ms: int) -> str:
        """Return why a signer cannot use a nonce, or "" having used it."""
        if signer not in self._nonces:
            if len(self._nonces) >= MAX_SIGNERS:
                return words.TOO_MANY_ACCOUNTS
            self._nonces[signer] = Nonces()
        return self._nonces[signer].refuse(nonce, now_ms)

    def _acting(self, request: SignedAction, master: str) -> tuple[str, str]:
        """Return in whose account the action is, and why it cannot be, "" if it can."""
        if request.vault_address is None:
            return master, ""
        vault = request.vault_address.lower()
        leader = self.registry.leader(vault)
        if leader is None:
            return vault, words.UNKNOWN_VAULT.format(vault=vault)
        return vault, "" if leader == master else words.NOT_THE_LEADER.format(user=master, vault=vault)

    def _execute(self, action: messages.Action, account: Account, now: Nanos) -> Json:
        orders = self._execution
        match action:
            case messages.OrderAction():
                return ok("order", [orders.place(each, account, now) for each in action.orders])
            case messages.CancelAction():
                return ok("cancel", [orders.cancel(account, each.a, each.o, now) for each in action.cancels])
            case messages.CancelByCloidAction():
                return ok("cancel", [orders.cancel(account, each.asset, each.cloid, now) for each in action.cancels])
            case messages.BatchModifyAction():
                return ok("order", [orders.modify(each, action.a, account, now) for each in action.modifies])
            case messages.ModifyAction():
                request = messages.ModifyRequest(action.oid, action.order)
                status = orders.modify(request, action.a, account, now)
                return refusal(status["error"]) if "error" in status else done()
            case messages.ScheduleCancelAction():
                reason = account.dead_man.schedule(action.time, account.volume, millis(now))
            case messages.UpdateLeverageAction():
                reason = self._set_leverage(action, account)
            case messages.NoopAction():
                reason = ""
        return refusal(reason) if reason else done()

    def _set_leverage(self, action: messages.UpdateLeverageAction, account: Account) -> str:
        """Return why a leverage cannot be set, or "" having set it."""
        if not 0 <= action.asset < len(self._perpetual_assets):
            return words.UNKNOWN_ASSET.format(asset=action.asset)
        if not 1 <= action.leverage <= LEVERAGE:
            return words.BAD_LEVERAGE
        account.leverage[self._perpetual_assets[action.asset]] = action.leverage
        return ""


def _count(action: Mapping[str, Any]) -> int:
    """Return how many requests an action is: one for each part of a batch."""
    parts = next((action[key] for key in BATCHES if isinstance(action.get(key), list)), ())
    return max(1, len(parts))
