"""mmpi practice: a venue to practise on, and keys for it."""

import argparse
import json
import os

from mmpi.folders import practice_registry
from mmpi.practice.hyperliquid.server import run_practice
from mmpi.practice.keys import make_keys


def run(args: argparse.Namespace) -> int:
    """Return 0 once the keys are made, or the server was told to end."""
    registry = practice_registry(os.environ)
    if args.what == "hyperliquid":
        run_practice(args.port, args.latency_ms, args.seed, args.secrets, args.mainnet, registry=registry)
        return 0
    made = make_keys(args.out, registry, force=args.force)
    if args.json:
        print(json.dumps({"account": made.account, "agents": dict(made.agents), "dir": str(args.out)}))
    else:
        print(f"practice account {made.account}: keys in {args.out}")
        print(f"use them: export MMPI_SECRETS__DIR={args.out.absolute()}")
    return 0
