"""What must not stand in the project's code: calls that run text as code, or read files that can."""

import ast
from collections.abc import Iterator

MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "pty", "runpy"}
NAMES = {"eval", "exec", "compile", "__import__", "shell"}
PROCESSES = ("system", "popen", "execv", "execvp", "execl", "execlp", "spawnv", "spawnl", "posix_spawn")
LOADERS = ("unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "load", "load_all")
# by the module or, where that does not matter, by the method alone
CALLS = {f"os.{name}" for name in PROCESSES} | {f"yaml.{name}" for name in LOADERS}
CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "importlib.import_module"}
METHODS = {"read_pickle", "to_pickle", "shellcmd", "register_for_auto_class"}
# of tables: they run their text, which must stand in the code; a network's eval() takes none
EXPRESSIONS = {"eval", "query"}
# keywords, and the one value that is harmless
KEYWORDS = {"shell": False, "allow_pickle": False, "trust_remote_code": False, "weights_only": True}


def dangers(tree: ast.AST) -> Iterator[str]:
    """A line per dangerous import or call of a syntax tree: where it stands, and what it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found = list(_imported(node))
        else:
            found = list(_called(node)) if isinstance(node, ast.Call) else []
        yield from (f"line {node.lineno}: {what}" for what in found)


def _imported(node: ast.ImportFrom) -> Iterator[str]:
    module = node.module or ""
    for alias in node.names:
        if module.split(".")[0] in MODULES or f"{module}.{alias.name}" in CALLS:
            yield f"{module}.{alias.name}"


def _called(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    method = name.split(".")[-1]
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    is_made = method in EXPRESSIONS and not all(isinstance(text, ast.Constant) for text in node.args)
    is_open = name == "torch.load" and "weights_only" not in keywords
    if name in NAMES | CALLS or method in METHODS or is_made or is_open:
        yield name
    for keyword, harmless in KEYWORDS.items():
        value = keywords.get(keyword)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is harmless):
            yield f"{name}({keyword}={ast.unparse(value)})"
