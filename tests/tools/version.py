"""Prints the version of the module that is named."""

import importlib.metadata
import sys

print(importlib.metadata.version(sys.argv[1]))
