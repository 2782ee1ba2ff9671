"""The one hook. A plugin is a torch-free module with a function of this name, marked with `hookimpl`."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from llmkit.core.component import Component

PROJECT = "llmkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """The hook specification that the host adds to its plugin manager."""

    @hookspec
    def llmkit_components(self) -> Iterable[Component]:
        """The components that this plugin brings.

        Called once a process, and before anything is chosen: import nothing heavy here or at the top of the module
        (torch, numpy, transformers); name the code by `Component.target` instead.
        """
        raise NotImplementedError
