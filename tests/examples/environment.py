"""An environment as a user's: llmkit's wheel, built and installed, with nothing of this working tree in sight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


class Environment:
    """A virtual environment whose dependencies (torch and the rest) are those of the interpreter that runs these tests.

    Its own packages come first, so that a wheel in it hides what is installed there, and what is linked there with `pip install -e`
    is not found at all: a `.pth` file names the directory, and `.pth` files inside of it are not read.
    """

    def __init__(self, home: Path) -> None:
        venv.create(home / "env", with_pip=False, symlinks=True)
        self.python = home / "env" / "bin" / "python"
        self.site = Path(sysconfig.get_path("purelib", "venv", {"base": str(home / "env"), "platbase": str(home / "env")}))
        self.work = home / "work"
        self.work.mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LLMKIT_", "PYTEST_", "PYTHON", "COV_"))}
        self.variables = {**inherited, "OMP_NUM_THREADS": "1", "HOME": str(home), "COLUMNS": "200"}

    def install(self, *what: str, beside_dependencies: bool = False) -> None:
        """`pip install`, which fetches nothing: what is to be installed lies here, and so does all that it needs.

        beside_dependencies  whether pip sees them: it must where a build needs setuptools, and may not where a wheel is to be installed
                             that another environment has, since it would call it installed
        """
        dependencies = self.site / "dependencies.pth"
        if not beside_dependencies:
            dependencies.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-index", "--no-deps"]
        done = subprocess.run([*command, *what], cwd=self.work, env=self.variables, capture_output=True, text=True, check=False)
        dependencies.write_text("".join(f"{path}\n" for path in sys.path if Path(path).name in ("site-packages", "dist-packages")))
        assert done.returncode == 0, f"pip install {what}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A program, as this environment has it: `llmkit`, where its wheel was installed, `pytest` from the dependencies."""
        script = self.python.with_name(program)
        line = [str(script)] if script.exists() else [str(self.python), "-m", program]
        return subprocess.run([*line, *arguments], cwd=self.work, env=self.variables, capture_output=True, text=True, check=False)

    def run(self, program: str, *arguments: str) -> str:
        """As `call`; what it printed, where it went well."""
        done = self.call(program, *arguments)
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def built(source: Path, into: Path) -> Path:
    """The wheel of a source tree: of a copy, so that the build leaves nothing behind and finds nothing left over."""
    copy, wheels = into / "source", into / "wheels"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "tests", "__pycache__", "examples")
    shutil.copytree(source, copy, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(wheels.glob("*.whl"))
