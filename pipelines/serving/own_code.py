"""The code that a registered model carries: the modules that prediction needs, in a package with a unique name.

Predictions then come from the registered code, whatever is installed or checked out later, and versions with different code
can be used in one process.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import research
from research.fingerprint import digest_bytes
from research.tracking import schema

LIBRARY = Path(research.__file__).parent
"""Folder of the library whose modules are copied."""
IMPORT = re.compile(r"^(\s*(?:from|import) )research\b", re.MULTILINE)
DATA_SUFFIXES = (".cpp",)
"""Suffixes of data files that modules read from their own folder."""


def write_own_code(script: Path, folder: Path, library: Path = LIBRARY) -> tuple[Path, Path]:
    """Copy a script and the library modules that it needs into `folder`; return the paths of the copied script and package.

    The package is named after the digest of its content, and the copies import from it instead of from `research`.
    """
    sources = {path.relative_to(library): path for path in _needed_files(script, library)}
    texts = {path: source.read_text() for path, source in sorted(sources.items())}
    script_text = script.read_text()
    digest = digest_bytes(script_text.encode(), *(f"{path.as_posix()}\n{text}".encode() for path, text in texts.items()))
    name = f"{schema.OWN_CODE}{digest}"
    for path, text in texts.items():
        copy = folder / name / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(_renamed(text, name) if path.suffix == ".py" else text)
    copied_script = folder / script.name
    copied_script.write_text(_renamed(script_text, name))
    return copied_script, folder / name


def _renamed(source: str, name: str) -> str:
    """Return the source with its imports from the library replaced by imports from the package `name`."""
    return IMPORT.sub(rf"\g<1>{name}", source)


def _needed_files(script: Path, library: Path) -> set[Path]:
    """Return every library file that the script imports, directly or indirectly, with the data files of the same folders."""
    needed: set[Path] = set()
    waiting = [script]
    while waiting:
        for module in _imported_modules(waiting.pop().read_text()):
            for path in _files_of(module, library):
                if path not in needed:
                    needed.add(path)
                    waiting += [path] if path.suffix == ".py" else []
    return needed


def _imported_modules(source: str) -> Iterator[str]:
    """Yield the dotted library names that a source imports at run time; `TYPE_CHECKING` blocks are skipped.

    Raises `ImportError` for a form that a copy under another name would not follow: `from . import x`, `import research.x`.
    """
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        relative = isinstance(node, ast.ImportFrom) and node.level
        if relative or any(name.split(".")[0] == "research" for name in names):
            raise ImportError(f"`{ast.unparse(node)}`: write `from research.x import y`, which a model's own code can follow.")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "research":
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(module: str, library: Path) -> Iterator[Path]:
    """Yield the files of a module, its parent packages and its data; nothing if the name is not a module."""
    folder = library
    for part in module.split(".")[1:]:
        yield folder / "__init__.py"
        if (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
            yield from (path for path in folder.iterdir() if path.suffix in DATA_SUFFIXES)
            return
        if not (folder / part).is_dir():
            return
        folder = folder / part
    yield folder / "__init__.py"
