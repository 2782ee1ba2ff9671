"""One file a kind: what a component must be. The only part of the core that may import torch."""
