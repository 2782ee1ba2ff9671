"""GGUF, the files of llama.cpp: read through transformers, written with the package `gguf`."""

from llmkit.interop.gguf.architectures import Architecture, architecture_of_spec, architectures
from llmkit.interop.gguf.reading import unpacked
from llmkit.interop.gguf.vocabulary import Vocabulary, read_vocabulary
from llmkit.interop.gguf.writing import PRECISIONS, write_gguf

__all__ = ["PRECISIONS", "Architecture", "Vocabulary", "architecture_of_spec", "architectures", "read_vocabulary", "unpacked", "write_gguf"]
