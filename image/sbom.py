"""SBOM: the bill of materials, CycloneDX 1.5, from the two locks; nothing is asked of anybody.

Invariant: the same locks give the same bytes. Source: CycloneDX specification 1.5; package URL specification.
"""

import datetime
import hashlib
import json
import re
import uuid
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from image.lock import Lock


def cyclonedx(lock: Lock, wheels: str, without: Collection[str], version: str) -> str:
    """Return the document; `wheels`: the text of requirements/run.txt, `without`: what of it is not shipped."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:deb/debian/{quote(each.name)}@{quote(each.version, safe='')}?arch={each.arch}",
            "name": each.name,
            "version": each.version,
            "purl": f"pkg:deb/debian/{quote(each.name)}@{quote(each.version, safe='')}?arch={each.arch}&distro=trixie",
            "hashes": [{"alg": "SHA-256", "content": each.sha256}],
        }
        for each in lock.packages["target"]
    ]
    for name, found, rest in re.findall(r"^([a-z][\w.-]*)==(\S+)(.*(?:\n .*)*)", wheels, flags=re.MULTILINE):
        if name not in without:
            purl = f"pkg:pypi/{name}@{found}"
            hashes = [{"alg": "SHA-256", "content": each} for each in re.findall("sha256:([0-9a-f]{64})", rest)]
            components.append({"type": "library", "bom-ref": purl, "name": name, "version": found, "purl": purl,
                               "properties": [{"name": "mmpi:allowed-sha256", "value": each["content"]}
                                              for each in hashes]})  # fmt: skip
    serial = uuid.UUID(hashlib.sha256(json.dumps(components, sort_keys=True).encode()).hexdigest()[:32], version=4)
    made = datetime.datetime.fromtimestamp(lock.epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1,
        "metadata": {"timestamp": made, "component": {"type": "operating-system", "bom-ref": "mmpi", "name": "mmpi",
                                                       "version": version}},
        "components": components,
    }  # fmt: skip
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
