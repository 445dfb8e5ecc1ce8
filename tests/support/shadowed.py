"""Print the modules below a package that their own package gives as something else.

    python tests/support/shadowed.py fanwise

`from package import name` then gives a function where `import package.name` gives a module. Modules
whose framework is missing are left out.
"""

import importlib
import pkgutil
import sys


def shadowed(package):
    """Yield their names."""
    path = importlib.import_module(package).__path__
    for found in pkgutil.walk_packages(path, f"{package}.", lambda name: None):
        home, _, name = found.name.rpartition(".")
        if name == "__main__":
            continue
        try:
            module = importlib.import_module(found.name)
        except ImportError:
            continue
        if getattr(importlib.import_module(home), name) is not module:
            yield found.name


if __name__ == "__main__":
    print(*shadowed(sys.argv[1]))
