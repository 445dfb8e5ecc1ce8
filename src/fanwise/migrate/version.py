"""Which TensorFlow a file was written for, told by the names it uses."""

from __future__ import annotations

from typing import Final

import libcst as cst

from fanwise.migrate.meanings import KnownVersion
from fanwise.migrate.module_names import ModuleNames

ONLY_IN_1: Final = frozenset(
    "app arg_max assign assign_add ConfigProto contrib Dimension flags get_collection "
    "get_default_graph get_variable get_variable_scope gfile global_variables "
    "global_variables_initializer GraphKeys initialize_all_variables InteractiveSession "
    "layers log logging placeholder Print random_normal random_uniform reset_default_graph "
    "Session set_random_seed sparse_to_dense to_float to_int32 trainable_variables "
    "truncated_normal variable_scope".split()
)
"""Names directly under `tensorflow` that 2.0 took away; a test compares them with today's."""

ONLY_IN_2: Final = frozenset({"random.set_seed", "data.AUTOTUNE", "random.Generator"})
"""Names under `tensorflow` that no 1.x had."""

SINCE_1_13: Final = frozenset({"compat.v1", "compat.v2", "function", "config"})
"""Names under `tensorflow` that came with 1.13 or later."""


TELLING: Final = frozenset(
    part for name in ONLY_IN_1 | ONLY_IN_2 | SINCE_1_13 for part in name.split(".")
)
"""Parts of names that tell a version."""


def version_by_names(names: ModuleNames) -> KnownVersion:
    """Return what a file tells of its TensorFlow: the API, and whether it is from after 1.10."""
    seen = {module for module, _ in names.stars} | set(names.imports.values())
    for node in names.expressions(TELLING):
        if isinstance(node, cst.Attribute):
            seen |= names.dotted(node)
    under = [name.split(".")[1:] for name in seen if name.startswith("tensorflow.")]
    one, two = {parts[0] for parts in under}, {".".join(parts[:2]) for parts in under}
    modern = bool((one | two) & SINCE_1_13)
    if one & ONLY_IN_1:
        return KnownVersion(api1=True, modern=modern)
    return KnownVersion(api1=False if two & ONLY_IN_2 else None, modern=modern)
