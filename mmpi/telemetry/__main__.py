"""Prints docs/telemetry-payloads.json, the JSON Schemas of all that is said and obeyed over MQTT."""

import json
import sys

from mmpi.telemetry.payloads import schemas

sys.stdout.write(json.dumps(schemas(), indent=1, sort_keys=True) + "\n")
