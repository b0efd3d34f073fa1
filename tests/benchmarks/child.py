"""The other side of `measured.in_child`: `python -m tests.benchmarks.child MODULE:FUNCTION ARGUMENTS-AS-JSON`."""

import importlib
import json
import sys

from tests.benchmarks.measured import Unavailable, measured

if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    try:
        print(json.dumps(measured(getattr(importlib.import_module(module), name), *json.loads(sys.argv[2]))))
    except Unavailable as error:
        print(json.dumps({"unavailable": str(error)}))
