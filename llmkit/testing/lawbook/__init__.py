"""The laws, a file for every kind, and those that several kinds share: `component` for all, `decoder` for what sits in a model."""
