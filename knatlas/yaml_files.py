"""YAML as people write it: read with a sentence for each mistake, a key that stands twice among them."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from knatlas.errors import AtlasError

# the parser in C is many times as fast, and every start of the workflow reads the schema and the catalog
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: str | Path, remedy: str = "Mend the file.") -> object:
    """The content of a YAML file; None where it is empty.

    Raises: FileNotFoundError; AtlasError, with file and line, for text that is not UTF-8 or not YAML, and for keys that
    stand twice in one mapping, of which YAML itself takes the last without a word.
    """
    text = _text(Path(path), remedy)
    loader = LOADER(text)
    try:
        root = loader.get_single_node()
        if repeated := list(_repeated(root, str(path))):
            raise AtlasError("\n".join(repeated))
        return None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise AtlasError(f"{_sentence(path, text, error)} {remedy}".rstrip()) from error
    finally:
        loader.dispose()


def repeated_keys(path: str | Path) -> list[str]:
    """A sentence for each key that stands twice in one mapping of a YAML file; none for a file that is not YAML."""
    try:
        return list(_repeated(yaml.compose(_text(Path(path), ""), Loader=LOADER), str(path)))
    except yaml.YAMLError:
        return []


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        sentence = f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8. {remedy}"
        raise AtlasError(sentence.rstrip()) from error


def _repeated(root: yaml.Node | None, path: str) -> Iterator[str]:
    """A sentence for each key that stands for the second time in its mapping, in the order of the file."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        # an alias is its anchor's node once more
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            yield from _repeated_here(node, path)
            parts = [value for _, value in node.value]
        waiting += reversed(parts)


def _repeated_here(node: yaml.MappingNode, path: str) -> Iterator[str]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in first:
            yield f"{path}, line {line}: the key '{name}' stands in line {first[name]} already; keep one of the two"
        first.setdefault(name, line)


def _sentence(path: str | Path, text: str, error: yaml.YAMLError) -> str:
    """What the parser found, and where, in one line."""
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{path} is not YAML: {problem}."
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    tab = " The line has a tab; YAML is indented with blanks." if "\t" in line else ""
    return f"{path}, line {mark.line + 1} is not YAML: {problem} at column {mark.column + 1}.{tab}"
