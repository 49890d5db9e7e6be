"""The kernel that notebooks run in: ipykernel's, which here drops no output and keeps what every cell has found."""

import os
from typing import Any

from ipykernel.kernelapp import IPKernelApp

from labutils.core.freed_memory import keep_returning
from labutils.core.paths import run_folder, study_folder
from labutils.runner.kept_work import FOLDER, WorkKeeper
from labutils.runner.locks import kernel_lock
from labutils.runner.spent import Notes


class StudyKernelApp(IPKernelApp):
    """A kernel whose outputs wait for their reader, however many there are, and whose work is kept cell by cell."""

    def init_iopub(self, context: Any) -> None:
        """Open the socket of outputs without a limit: at ZeroMQ's own, of 1000 messages, it drops all others."""
        context.sndhwm = 0
        super().init_iopub(context)

    def init_code(self) -> None:
        """Before the first cell: wait for the end of an earlier kernel of this notebook; watch cells, time and heap."""
        stem = os.environ["LABUTILS_NOTEBOOK"]
        self.kernel_lock = kernel_lock(run_folder(), stem)
        self.kernel_lock.acquire()
        Notes(run_folder(), stem).keep(os.environ["LABUTILS_ATTEMPT"])
        keep_returning()
        self.shell.events.register("post_run_cell", WorkKeeper(self.shell.user_ns, study_folder() / FOLDER).keep)
        super().init_code()


def launch() -> None:
    """Run a kernel in this process; its connection file is among the command's arguments."""
    StudyKernelApp.launch_instance()
