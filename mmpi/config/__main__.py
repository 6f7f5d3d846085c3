"""Print docs/configuration.md: python -m mmpi.config > docs/configuration.md."""

from mmpi.config.models import json_schema
from mmpi.config.schema import markdown

print(markdown(json_schema()), end="")
