"""Types and shapes in the signatures of `labutils` are checked in every call that a test makes.

Every function and method is checked by beartype, and so are the fields of dataclasses. Those whose signature names a
shape are run by jaxtyping, so that a dimension of one name has one length within a call. jaxtyping's own import hook
does that with every function; here only those pay for it that name a shape, and functions inside functions, which it
decorates anew in every call of the outer one, are left out. That takes a third off the time of the tests.
"""

import ast
import importlib.util
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(violation_type=TypeError))  # as jaxtyping's own violations are
CHECKED = "__import__('checked_types').checked"
SHAPED = "__import__('jaxtyping').jaxtyped(typechecker=None)"  # around the former
SHAPED_FIELDS = f"__import__('jaxtyping').jaxtyped(typechecker={CHECKED})"


def names_of_shapes(trees: Sequence[ast.Module]) -> set[str]:
    """What modules import from jaxtyping, and what they call types that are made of it."""
    nodes = [node for tree in trees for node in tree.body]
    given = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping"]
    names = {alias.asname or alias.name for node in given for alias in node.names}
    made = [node for node in nodes if isinstance(node, ast.Assign) and mentions(node.value, names)]
    return names | {target.id for node in made for target in node.targets if isinstance(target, ast.Name)}


def mentions(node: ast.AST | None, names: set[str]) -> bool:
    return node is not None and any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))


class Decorating(ast.NodeTransformer):
    """Puts the decorators on a module's functions, methods and dataclasses.

    Types that a module imports for readers alone, under `TYPE_CHECKING`, are not there to be checked.
    """

    def __init__(self, shapes: set[str]) -> None:
        self.shapes = shapes
        self.absent: set[str] = set()

    def visit_If(self, node: ast.If) -> ast.AST:
        if mentions(node.test, {"TYPE_CHECKING"}):
            self.absent |= {alias.name for each in node.body for alias in each.names}
        return self.generic_visit(node)

    def _forget(self, annotation: ast.expr | None) -> ast.expr | None:
        return None if isinstance(annotation, ast.Constant) and annotation.value in self.absent else annotation

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = self._forget(node.returns)
        for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            each.annotation = self._forget(each.annotation)
        shaped = any(mentions(each, self.shapes) for each in (node.args, node.returns))
        node.decorator_list += _decorators(node, [SHAPED, CHECKED] if shaped else [CHECKED])
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if any(mentions(each, {"dataclass"}) for each in node.decorator_list):
            fields = [each.annotation for each in node.body if isinstance(each, ast.AnnAssign)]
            shaped = any(mentions(each, self.shapes) for each in fields)
            node.decorator_list[:0] = _decorators(node, [SHAPED_FIELDS if shaped else CHECKED])
        return self.generic_visit(node)


def _decorators(node: ast.AST, sources: Sequence[str]) -> list[ast.expr]:
    found = [ast.parse(source, mode="eval").body for source in sources]
    for each in found:
        for inner in ast.walk(each):
            ast.copy_location(inner, node)
    return found


class Loader(SourceFileLoader):
    """Decorates what it loads, and keeps no bytecode, which would be taken where nothing is to be checked."""

    shapes: set[str]

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data: bytes, path: str) -> CodeType:
        tree = Decorating(self.shapes).visit(ast.parse(data, path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class Finder:
    """Finds the modules of one package, as Python does, for `Loader`."""

    def __init__(self, package: str) -> None:
        self.package = package
        (folder,) = importlib.util.find_spec(package).submodule_search_locations
        self.folder = Path(folder)

    @cached_property
    def shapes(self) -> set[str]:
        return names_of_shapes([ast.parse(path.read_bytes()) for path in sorted(self.folder.rglob("*.py"))])

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name != self.package and not name.startswith(f"{self.package}."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path)
            spec.loader.shapes = self.shapes
        return spec


def check_types(package: str) -> None:
    """From here on, in what is imported of a package; RuntimeError where that has begun."""
    if any(name == package or name.startswith(f"{package}.") for name in sys.modules):
        raise RuntimeError(f"{package} is imported already: check its types before that")
    sys.meta_path.insert(0, Finder(package))


check_types("labutils")
