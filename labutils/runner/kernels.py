"""Execute one notebook through papermill in a kernel of its own, and notice when that kernel dies.

papermill marks every cell completed after a killed kernel, and its kernels race for ports when several start at once.
So kernels here talk through sockets in a private folder, run this very Python, and the cell in progress is followed
from outside.
"""

import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellExecutionComplete, CellTimeoutError, DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from labutils.core import paths
from labutils.runner import parent_death
from labutils.runner.engines import VARIABLE
from labutils.runner.streams import Log, Streams
from labutils.runner.workplaces import make_workplace, remove_workplace

ENGINE = "labutils"  # papermill's word for what runs notebooks
# The working directory must not lend a module its name while the kernel starts; IPython puts it back for the notebook.
OWN_PATH = "import sys; sys.path[:1] = filter(None, sys.path[:1])"
WITH_RUNNER = "from labutils.runner.parent_death import die_with_parent; die_with_parent()"
LAUNCH = f"{OWN_PATH}; {WITH_RUNNER}; from labutils.runner.study_kernel import launch; launch()"
START_KERNEL = "from labutils.runner.engines import start_kernel; start_kernel()"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TRACEBACK_LINES = 12
# How long outputs may lag behind the end of their cell; a busy machine is slow to deliver many of them.
IOPUB_SECONDS = 600
INCOMPLETE = f"labutils: the outputs of this cell may be incomplete: its end was not seen within {IOPUB_SECONDS} s\n"


@contextlib.contextmanager
def papermill_silenced() -> Iterator[None]:
    """While notebooks run, papermill logs nothing.

    It warns of union-typed parameters that it cannot read, and nbclient logs a death that is reported here anyway. Its
    logger is one for all threads, so this belongs around all notebooks of a run.

        with papermill_silenced(): execute(notebook, {}, execution)
    """
    log = logging.getLogger("papermill")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


class StudyFailure(Exception):
    """A notebook did not come to its end: number (from 1) and first line of its code cell, and what happened."""

    def __init__(self, cell: int, first_line: str, message: str, notebook: NotebookNode) -> None:
        super().__init__(f"cell {cell} ({first_line}): {message}")
        self.cell = cell
        self.first_line = first_line
        self.message = message
        self.notebook = notebook


class OwnPythonManager(AsyncKernelManager):
    """Starts kernels with the running Python, whatever a user-level kernel spec of the same name may say."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel spec, fixed: that of `study_kernel` in `sys.executable`."""
        argv = [sys.executable, "-c", LAUNCH, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


@dataclass
class Execution:
    """One execution of one notebook: where its kernel lives and which cell it is at."""

    environment: Mapping[str, str]
    on_cell: Callable[[int, str], None]
    on_text: Callable[[str], None]
    cell_timeout: int | None = None
    cell: int = 0
    first_line: str = "before the first cell"
    folder: Path = field(default_factory=make_workplace)
    manager: OwnPythonManager | None = None
    killed: bool = False
    spoken: Log = field(default_factory=Log)

    @property
    def log(self) -> Path:
        """Where the kernel's process writes what does not come from a cell: its last words."""
        return self.folder / "kernel.log"

    def kill(self) -> None:
        """End the kernel at once, or as soon as it runs."""
        self.killed = True
        provisioner = self.manager.provisioner if self.manager is not None else None
        if provisioner is not None and (pid := getattr(provisioner, "pid", None)):
            os.kill(pid, signal.SIGKILL)

    def start_cell(self, notebook: NotebookNode, cell_index: int) -> None:
        """Note that the kernel begins with a cell, counted among the code cells of the notebook's author."""
        if "injected-parameters" in notebook.cells[cell_index].metadata.get("tags", []):
            return
        self.cell = sum(is_own_code(cell) for cell in notebook.cells[: cell_index + 1])
        self.first_line = first_line(notebook.cells[cell_index].source)
        self.on_cell(self.cell, self.first_line)

    def write(self, text: str) -> None:
        """Receive what the kernel writes to its standard error."""
        for line in self.spoken.lines(text):
            self.on_text(line)

    def flush(self) -> None:
        """Nothing is buffered; streams must have this method."""


class StudyClient(PapermillNotebookClient):
    """papermill's client with kernels of our own making, whose outputs all arrive."""

    def __init__(self, nb_man: NotebookExecutionManager, execution: Execution, **options: Any) -> None:
        options |= {"timeout": execution.cell_timeout, "record_timing": False, "coalesce_streams": False}
        options |= {"iopub_timeout": IOPUB_SECONDS, "raise_on_iopub_timeout": False}
        if VARIABLE in execution.environment:
            options["extra_arguments"] = [f"--IPKernelApp.exec_lines={START_KERNEL}"]
        super().__init__(nb_man, **options)
        self.execution = execution
        self.streams = Streams()
        self.on_cell_execute = lambda cell, cell_index: execution.start_cell(self.nb, cell_index)

    async def async_execute_cell(self, cell: NotebookNode, *given: Any, **options: Any) -> NotebookNode:
        """Execute a cell; however it ends, what it printed so far stands among its outputs."""
        self.streams, self.seen_to_end = Streams(), cell.cell_type != "code" or not cell.source.strip()
        try:
            done = await super().async_execute_cell(cell, *given, **options)
            if not self.seen_to_end:
                self.streams.add(cell.outputs, nbformat.v4.new_output("stream", name="stderr", text=INCOMPLETE))
                self.execution.write(INCOMPLETE)
            return done
        finally:
            if cell.cell_type == "code":
                self.streams.finish(cell.outputs)

    execute_cell = run_sync(async_execute_cell)

    def process_message(self, *given: Any, **options: Any) -> NotebookNode | None:
        """Take a message; nbclient calls this. One of them tells that the cell has sent all of its outputs."""
        try:
            return super().process_message(*given, **options)
        except CellExecutionComplete:
            self.seen_to_end = True
            raise

    def output(
        self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        """Take an output; nbclient calls this. Text of a stream is put together as it comes."""
        if msg["msg_type"] != "stream" or self.output_hook_stack[msg["parent_header"].get("msg_id")]:
            clearing = self.clear_before_next_output
            if clearing:
                self.streams.clear()
            return super().output(outs, msg, display_id, cell_index)
        if self.clear_before_next_output:
            outs[:] = []
            self.clear_display_id_mapping(cell_index)
            self.streams.clear()
            self.clear_before_next_output = False
        text = nbformat.v4.output_from_msg(msg)
        self.streams.add(outs, text)
        return text

    def clear_output(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Clear a cell's outputs, now or before the next; nbclient calls this."""
        super().clear_output(outs, msg, cell_index)
        if not outs:
            self.streams.clear()

    def create_kernel_manager(self) -> OwnPythonManager:
        """A manager whose kernel listens on sockets in a private folder: no ports, no races for them."""
        folder = self.execution.folder
        self.km = OwnPythonManager(transport="ipc", ip=str(folder / "k"), connection_file=str(folder / "kernel.json"))
        self.km.context.rcvhwm = 0  # without a limit, as on the kernel's side
        self.execution.manager = self.km
        return self.km

    def start_new_kernel(self, **options: Any) -> None:
        """Start the kernel in the execution's environment."""
        # A private IPython folder: no start-up scripts or settings of the user's enter the study.
        private = {"IPYTHONDIR": str(self.execution.folder / "ipython")}
        with self.execution.log.open("wb") as log:
            environment = dict(self.execution.environment) | private
            super().start_new_kernel(env=environment, stdout=log, stderr=log, **options)
        if self.execution.killed:  # while the kernel was on its way
            self.execution.kill()


class StudyEngine(NBClientEngine):
    """The papermill engine that runs `StudyClient`."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, execution: Execution, **_: Any
    ) -> None:
        """Execute all cells; papermill calls this."""
        log = logging.getLogger("papermill")
        StudyClient(nb_man, execution, kernel_name=kernel_name, stderr_file=execution, log=log).execute()


papermill_engines.register(ENGINE, StudyEngine)


def execute(notebook: NotebookNode, parameters: Mapping[str, Any], execution: Execution) -> NotebookNode:
    """Run a notebook with `parameters` injected, in a kernel that ends with it, and return it with its outputs.

    Raises:
        StudyFailure: a cell raised an exception or took too long, or the kernel died; it carries the notebook so far.
    """
    source, output = execution.folder / "source.ipynb", execution.folder / "executed.ipynb"
    nbformat.write(notebook, source)
    try:
        return execute_notebook(
            source,
            output,
            parameters=dict(parameters),
            engine_name=ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution=execution,
        )
    except PapermillExecutionError as error:
        lines = ANSI.sub("", "\n".join(error.traceback)).splitlines()
        message = "\n".join([f"{error.ename}: {error.evalue}", *lines[-TRACEBACK_LINES:]])
    except CellTimeoutError as error:
        message = " ".join(str(error).splitlines()[:2])
    except DeadKernelError:
        words = execution.log.read_text(errors="replace").splitlines()[-TRACEBACK_LINES:]
        message = "\n".join(["the kernel died: it was killed, or the machine ran out of memory", *words])
    except RuntimeError as error:
        message = f"the kernel failed: {error}"
    finally:
        executed = nbformat.read(output, as_version=4) if output.exists() else notebook
        remove_workplace(execution.folder)
    raise StudyFailure(execution.cell, execution.first_line, message, executed)


def kernel_environment(run: Path, stem: str, attempt: str, threads: int, engine: str | None = None) -> dict[str, str]:
    """Environment of a notebook's kernel: where it writes, which `labutils` it imports, how many threads it has.

    `engine` is where its sweeps run, see `labutils.runner.engines`; None: in the kernel itself.

        kernel_environment(Path("results/lab"), "01_a", "1f0e", threads=2)["LABUTILS_NOTEBOOK"]  # "01_a"
    """
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if engine is not None:
        environment[VARIABLE] = engine
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    inherited = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    return environment | {
        parent_death.VARIABLE: str(os.getpid()),
        "LABUTILS_RUN_FOLDER": str(run),
        "LABUTILS_NOTEBOOK": stem,
        "LABUTILS_ATTEMPT": attempt,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": os.pathsep.join([str(paths.REPOSITORY), *inherited]),
    }


def is_own_code(cell: NotebookNode) -> bool:
    """True for code cells of the notebook's author, not for the one papermill injects."""
    return cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])


def first_line(source: str) -> str:
    """The first line of a cell that says something, at most 60 characters of it."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    line = lines[0] if lines else "empty cell"
    return line if len(line) <= 60 else line[:59] + "…"
