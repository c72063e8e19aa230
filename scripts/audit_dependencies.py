"""Audit what kleiber depends on: pins against what is needed, and licences, from the metadata of what is installed.

    python scripts/audit_dependencies.py

Everything that any extra needs, directly or not, has to be pinned exactly in constraints.txt, and nothing else may be.
A package without a licence fails; one whose licence asks the same of changes to it (copyleft) is marked. Release dates
are not told: neither the metadata nor pip knows them. Exits 1 when something is wrong.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
COPYLEFT = re.compile(r"\bA?GPL|\bLGPL|\bMPL|\bEUPL|\bCDDL|General Public|Mozilla", re.IGNORECASE)


def pins(path: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Return the version that each package is pinned to, by canonical name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    pinned = {}
    for line in filter(None, lines):
        name, _, version = line.partition("==")
        pinned[canonicalize_name(name)] = version
    return pinned


def closure() -> dict[str, set[str]]:
    """Return every package that kleiber with any extra needs on this machine, and by whom each is needed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    waiting = [("kleiber", requirement) for requirement in map(Requirement, own) if requirement.name != "kleiber"]
    needed: dict[str, set[str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        by, requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        needed.setdefault(name, set()).add(by)
        package = installed(name)
        if package is None or (name, extras) in seen:
            continue
        seen.add((name, extras))
        for other in map(Requirement, package.requires or ()):
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((name, other))
    return needed


def installed(name: str) -> Distribution | None:
    """Return an installed package, or None."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence(package: Distribution) -> str:
    """Return what a package says of its licence in a few words: SPDX, or classifiers, or the first line of text."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    names = [line.rpartition(" :: ")[2] for line in classifiers if not line.endswith("OSI Approved")]
    return "; ".join(names) or str(metadata.get("License") or "").strip().partition("\n")[0][:40]


def problems(pinned: dict[str, str], needed: dict[str, set[str]]) -> list[str]:
    """Return what is wrong with the pins."""
    found = [f"{name} is needed by {', '.join(sorted(needed[name]))} and not pinned" for name in needed.keys() - pinned]
    found += [f"{name} is pinned and not needed" for name in pinned.keys() - needed.keys()]
    for name in needed.keys() & pinned.keys():
        package = installed(name)
        if not pinned[name] or "*" in pinned[name]:
            found.append(f"{name} is not pinned to one version")
        elif package is not None and package.version.partition("+")[0] != pinned[name].partition("+")[0]:
            found.append(f"{name} is pinned to {pinned[name]}, and {package.version} is installed")
    return sorted(found)


def main() -> None:
    """Print licences, pins and what is wrong with them."""
    pinned, needed = pins(), closure()
    wrong = problems(pinned, needed)
    by_licence: dict[str, list[str]] = {}
    for name in sorted(pinned):
        package = installed(name)
        if package is not None:  # others are for another platform
            by_licence.setdefault(licence(package) or "none named", []).append(name)
    for terms, names in sorted(by_licence.items(), key=lambda entry: -len(entry[1])):
        flag = "  <- " + ("no licence" if terms == "none named" else "copyleft") if COPYLEFT.search(terms) else ""
        print(f"{len(names):>3}  {terms}{flag}: {', '.join(names)}")
    wrong += [f"{name} names no licence" for name in by_licence.get("none named", ())]
    print(f"{len(pinned)} pinned, {len(needed)} needed")
    print("\n".join(wrong) or "nothing is wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
