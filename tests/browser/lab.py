"""A JupyterLab server of its own, and a notebook opened in it as a learner would open it."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, Request

from course_lib.teaching import course

ARTIFACTS = course.ROOT / "test-artifacts"
# Each process that shares the tests has a server of its own.
LOG = ARTIFACTS / f"jupyterlab-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}.log"
LAB_SETTINGS = course.ROOT / "tools" / "lab_settings"
SOON = 30_000  # milliseconds for the page to answer: a busy machine needs many, an idle one few
OPEN_TIME = 120_000  # milliseconds until JupyterLab stands and the kernel answers
RUN_TIME = 600_000  # milliseconds for a whole notebook with COURSE_QUICK=1
START_TIME = 120  # seconds until the server answers

# With cells outside of the viewport not in the page, tests would have to scroll after everything.
TEST_SETTINGS = {"@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"}}

# Harmless errors that JupyterLab itself logs, as (text, why it is harmless). So far there is none.
ALLOWED_ERRORS: tuple[tuple[str, str], ...] = ()

OPEN = "async (path) => { await jupyterapp.commands.execute('docmanager:open', { path }); }"
KERNEL_IS_IDLE = """(path) => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    const is_open = panel?.context?.path === path;
    return is_open && panel.sessionContext?.session?.kernel?.status === "idle";
}"""
# Nobody is asked whether to save.
CLOSE = """async () => {
    const panel = jupyterapp.shell.currentWidget;
    await panel.sessionContext.shutdown();
    panel.dispose();
}"""
# A cell that fails stops the run, so that the cells below it never get a number.
RUN_IS_OVER = """() => {
    const { content, sessionContext } = jupyterapp.shell.currentWidget;
    const cells = content.model.sharedModel.cells.filter((cell) => cell.cell_type === "code");
    const failed = cells.some((cell) => cell.outputs.some((o) => o.output_type === "error"));
    const all_ran = cells.every((cell) => cell.execution_count !== null);
    return (failed || all_ran) && sessionContext.session.kernel.status === "idle";
}"""
WIDGETS_ARE_SHOWN = """() =>
    [...document.querySelectorAll(".jp-OutputArea-output")].every(
        (output) => !output.textContent.includes("Loading widget")
    )
"""
# What stands below each cell that shows a widget, or what stands in for one.
WIDGET_OUTPUTS = """() => {
    const { widgets } = jupyterapp.shell.currentWidget.content;
    const has_widget = (cell) => (cell.model.sharedModel.outputs ?? []).some(
        (output) => output.data && "application/vnd.jupyter.widget-view+json" in output.data
    );
    return widgets.flatMap((cell, number) => has_widget(cell) ? [{
        cell: number,
        text: cell.outputArea.node.innerText.trim(),
        pictures: cell.outputArea.node.querySelectorAll("img").length,
    }] : []);
}"""


class Lab:
    """JupyterLab over a copy of the notebooks, with a learner's settings; `stop` it at the end.

    Args:
        folder: an empty one, for the copy and all that the server writes.
        settings: of JupyterLab's extensions, by plugin, on top of those that learners have.
    """

    def __init__(self, folder: Path, settings: dict[str, dict] | None = None):
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{_free_port()}"
        shutil.copytree(
            course.NOTEBOOKS,
            folder / "root" / "notebooks",
            ignore=shutil.ignore_patterns("source", ".ipynb_checkpoints"),
        )
        _write_settings(folder / "settings", TEST_SETTINGS | (settings or {}))
        ARTIFACTS.mkdir(exist_ok=True)
        with LOG.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group, so that kernels end with the server
            )

    def wait_until_it_answers(self) -> None:
        """Return when the server answers.

        Raises:
            RuntimeError: it has ended, or is silent for too long.
        """
        last = time.monotonic() + START_TIME
        while time.monotonic() < last and self._process.poll() is None:
            try:
                self.request("/api/status")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"JupyterLab did not start; see {LOG}")

    def request(self, path: str, method: str = "GET") -> bytes:
        """What the server answers to a request of its REST interface."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def stop_kernels(self) -> None:
        """End every kernel: each holds a copy of torch and of the data."""
        for kernel in json.loads(self.request("/api/kernels")):
            self.request(f"/api/kernels/{kernel['id']}", "DELETE")

    def stop(self) -> None:
        """End the server and all that it started."""
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def path(self, name: str) -> Path:
        """The file of a notebook that the server sees, e.g. of "labs/01_tensor_ops"."""
        return self.folder / "root" / "notebooks" / f"{name}.ipynb"

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            "--expose-app-in-browser",  # as `jupyterapp`, so that tests can ask instead of guess
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.url.rsplit(':', 1)[1]}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.folder / 'root'}",
            f"--IdentityProvider.token={self.token}",
        ]

    def _environment(self) -> dict[str, str]:
        # Neither the settings of whoever runs the tests count, nor is anything of theirs touched.
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
            "COURSE_PROGRESS": "progress.json",
        }
        return {
            **os.environ,
            **{name: str(self.folder / place) for name, place in own.items()},
            "JUPYTER_CONFIG_PATH": str(LAB_SETTINGS),
            "COURSE_TEST": "1",
            "COURSE_QUICK": "1",
        }


@dataclass
class Notebook:
    """A notebook in the browser."""

    name: str  # e.g. "00_start_here" or "labs/01_tensor_ops"
    page: Page
    server: str  # the address of its JupyterLab
    errors: list[str] = field(default_factory=list)  # from the browser's console
    strangers: list[str] = field(default_factory=list)  # addresses asked for on other machines
    seen: dict[str, list[dict]] = field(default_factory=dict)  # by `look_at_widgets`

    @classmethod
    def open(cls, lab: Lab, page: Page, name: str) -> "Notebook":
        """Open `name` and wait for its kernel; nothing is run.

        A fresh page loads JupyterLab at the notebook's address; one on which JupyterLab stands
        already opens the notebook as a click in the file browser does, which saves the loading.
        """
        notebook = cls(name, page, lab.url)
        for old in ARTIFACTS.glob(f"FAILED-{notebook._file_name()}-*"):
            old.unlink()
        page.set_default_timeout(SOON)
        page.on("console", notebook._note_message)
        page.on("pageerror", notebook._note_error)
        page.on("request", notebook._note_request)
        path = f"notebooks/{name}.ipynb"
        if page.url.startswith(lab.url):
            page.evaluate(OPEN, path)
        else:
            address = f"{lab.url}/lab/tree/{path}?token={lab.token}&reset"
            page.goto(address, timeout=OPEN_TIME)
        page.wait_for_function(KERNEL_IS_IDLE, arg=path, timeout=OPEN_TIME)
        return notebook

    def close(self) -> None:
        """End the kernel and close the notebook; JupyterLab stays in the page."""
        self.page.evaluate(CLOSE)
        self.page.remove_listener("console", self._note_message)
        self.page.remove_listener("pageerror", self._note_error)
        self.page.remove_listener("request", self._note_request)

    def run(self) -> None:
        """Clear what is stored, Run All Cells, and wait until the last widget is shown."""
        self.choose("Edit", "Clear Outputs of All Cells")
        self.choose("Run", "Run All Cells")
        self.page.wait_for_function(RUN_IS_OVER, timeout=RUN_TIME)
        self.page.wait_for_function(WIDGETS_ARE_SHOWN)

    def look_at_widgets(self, label: str) -> None:
        """Note and picture what every cell with a widget shows now, as `seen[label]`."""
        self.seen[label] = self.page.evaluate(WIDGET_OUTPUTS)
        for output in self.seen[label]:
            cell = self.page.locator(".jp-Notebook .jp-Cell").nth(output["cell"])
            area = cell.locator(".jp-Cell-outputWrapper")
            self.screenshot(area, f"{label}-{output['cell']}")

    def choose(self, menu: str, entry: str) -> None:
        """Choose an entry of one of JupyterLab's menus."""
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menuitem", name=entry, exact=True).click()

    def save(self) -> None:
        """Save the notebook and wait until that is done."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")

    def content(self) -> dict:
        """The notebook as it stands, in the format of its file."""
        return self.page.evaluate("() => jupyterapp.shell.currentWidget.content.model.toJSON()")

    def outputs(self) -> list[dict]:
        """All outputs of all cells."""
        return [output for cell in self.content()["cells"] for output in cell.get("outputs", [])]

    def active_cell(self) -> int:
        """The number of the selected cell, counted from 0."""
        return self.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex")

    def cell_with(self, text: str) -> Locator:
        """The code cell whose source contains `text`."""
        cells = self.content()["cells"]
        found = [i for i, cell in enumerate(cells) if text in cell["source"]]
        assert len(found) == 1, f"{text!r} stands in cells {found}"
        return self.page.locator(".jp-Notebook .jp-Cell").nth(found[0])

    def screenshot(self, what: Locator, label: str) -> None:
        """Keep a picture of one element for people to look at."""
        what.scroll_into_view_if_needed()
        what.screenshot(path=ARTIFACTS / f"{self._file_name()}-{label}.png")

    def keep_evidence(self, label: str) -> None:
        """Keep the page and the notebook as they are, after a failure."""
        stem = f"FAILED-{self._file_name()}-{label}"
        self.page.screenshot(path=ARTIFACTS / f"{stem}.png")
        text = json.dumps(self.content(), indent=1, ensure_ascii=False)
        (ARTIFACTS / f"{stem}.ipynb").write_text(text, encoding="utf-8")

    def _file_name(self) -> str:
        return self.name.replace("/", "-")

    def _note_message(self, message: ConsoleMessage) -> None:
        allowed = any(message.text == text for text, _ in ALLOWED_ERRORS)
        if message.type == "error" and not allowed:
            self.errors.append(message.text)

    def _note_error(self, error: Error) -> None:
        self.errors.append(str(error))

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.server, "data:", "blob:")):
            self.strangers.append(request.url)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _write_settings(folder: Path, settings: dict[str, dict]) -> None:
    for plugin, values in settings.items():
        path = folder / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
