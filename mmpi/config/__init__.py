"""Config: mmpi.toml as a person writes it, checked as a whole and resolved to mmpi.settings.Settings.

Invariant: no daemon imports this package; they read the file that `resolve` wrote.
It must not know what any part does with its settings.
"""

from mmpi.config.load import Loaded, effective, load_config
from mmpi.config.models import json_schema
from mmpi.config.resolved import resolve

__all__ = ["Loaded", "effective", "json_schema", "load_config", "resolve"]
