"""Print where each of the given modules was loaded from, and all that msgspec knows of its structs, as JSON."""

import json
import sys
from importlib import import_module

import msgspec


def shape(struct: type[msgspec.Struct]) -> str:
    """Return a struct's options and its fields with their types and defaults."""
    options = struct.__struct_config__
    return f"frozen={options.frozen} gc={options.gc} {msgspec.inspect.type_info(struct)}"


modules = [import_module(name) for name in sys.argv[1:]]
files = {module.__name__: module.__file__ for module in modules}
shapes = {
    f"{module.__name__}.{name}": shape(each)
    for module in modules
    for name, each in vars(module).items()
    if isinstance(each, type) and issubclass(each, msgspec.Struct) and each.__module__ == module.__name__
}
print(json.dumps({"files": files, "shapes": shapes}))
