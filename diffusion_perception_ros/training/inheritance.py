"""YAML files that are based on others: a run that differs in a few settings says only those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from diffusion_perception_ros.errors import InputError


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, on top of those of the file that its ``base`` names, and so on.

    Mappings are merged setting by setting; anything else replaces what the base says.

    Args:
        path: The file. A ``base`` is relative to the folder of the file that names it.

    Raises:
        InputError: One of the files cannot be read or holds no settings, or they are based on each other.
    """
    settings: dict[str, Any] = {}
    chain = [path]
    while True:
        values = _load(chain)
        base = values.pop("base", None)
        settings = _merge(values, settings)
        if base is None:
            return settings
        if not isinstance(base, str):
            raise InputError(f"{chain[-1]}.base must be a path to another YAML file, not {base!r}.")
        following = chain[-1].parent / base
        if following.resolve() in [seen.resolve() for seen in chain]:
            names = " to ".join(str(seen) for seen in [*chain, following])
            raise InputError(f"the bases lead in a circle, from {names}; remove one base.")
        chain.append(following)


def _load(chain: list[Path]) -> dict[str, Any]:
    """What the last file says, without the settings of its base."""
    path = chain[-1]
    name = f"{path}, the base of {chain[-2]}," if len(chain) > 1 else str(path)
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is no text file; name a YAML file.") from None
    except YAMLError as error:
        raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(values, Mapping):
        raise InputError(f"{name} must be a mapping of settings, not {values!r}.")
    return dict(values)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **changes}
    for name in base.keys() & changes.keys():
        before, after = base[name], changes[name]
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            merged[name] = _merge(before, after)
    return merged
