"""What every rank of a test runs: the runs of a list, one after another, each with a process group of its own."""

import json
import os
import sys
from pathlib import Path

from llmkit.runtime import load_spec
from llmkit.train.loop import train


def main(jobs: Path) -> None:
    for job in json.loads(jobs.read_text()):
        os.environ["MASTER_PORT"] = str(job["port"])
        train(load_spec(job["spec"], job["overrides"]), out=Path(job["out"]), resume=job["resume"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
