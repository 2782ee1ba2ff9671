"""The core: components, specs and the catalog. Nothing here imports torch, except `core.interfaces`."""
