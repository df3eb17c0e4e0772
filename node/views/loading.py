"""Views from the operator's own modules: each has a list `VIEWS`, and is read again when a view is to be rebuilt."""

import importlib
import sys
from collections.abc import Sequence

from node.views.view import View, ViewsRefused


def load_views(builtin: Sequence[View], modules: Sequence[str]) -> list[View]:
    """The node's own views and those of the modules, as they are now.

    Raises: ViewsRefused, naming the module and what is wrong with it.
    """
    views = list(builtin)
    taken = {view.name for view in builtin}
    for name in modules:
        for view in _views_of(name):
            if view.name in taken:
                raise ViewsRefused(f"module {name!r}: view {view.name!r} is one that every node has")
            views.append(view)
    return views


def _views_of(name: str) -> Sequence[View]:
    try:
        importlib.invalidate_caches()
        module = sys.modules.get(name)
        module = importlib.import_module(name) if module is None else importlib.reload(module)
    except ViewsRefused as error:
        raise ViewsRefused(f"module {name!r}: {error}") from None
    except Exception as error:  # the operator's code: whatever it raises is why it cannot be used
        raise ViewsRefused(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    views = getattr(module, "VIEWS", None)
    if not isinstance(views, list | tuple) or not all(isinstance(view, View) for view in views):
        raise ViewsRefused(f"module {name!r} has no list VIEWS of node.views.view.View")
    return views
