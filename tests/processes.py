"""Processes that begin at once: forked from a server that has imported torch for all of them."""

import multiprocessing
import os
import socket
import sys

from course_lib import sharding  # noqa: F401, imported here so that the server has it, too

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


def start(program, *arguments, errors=os.devnull, **environment):
    """Run `program(*arguments)`, a function of a module, in a process of its own.

    Args:
        errors: the file that its stderr goes to.
        environment: variables beside `COURSE_TEST=1`.
    """
    variables = {"COURSE_TEST": "1", "COURSE_QUICK": "0", **environment}
    arguments = tuple(map(str, arguments))
    process = SERVER.Process(target=_run, args=(program, arguments, str(errors), variables))
    process.start()
    return process


def run(program, *arguments, **options):
    """The exit code of `start`ed once it has ended."""
    return wait(start(program, *arguments, **options))


def share(program, *arguments, processes=2):
    """Start `program` as torchrun starts it, in so many processes that know of one another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return [start(program, *arguments, **place, **rank) for rank in ranks]


def wait(process, seconds=60):
    """The exit code; a process that has not ended by then is killed, and fails the test."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"process {process.pid} has not ended within {seconds} s")
    return process.exitcode


def _run(program, arguments, errors, variables):
    os.environ.update(variables)
    sys.stderr = open(errors, "a")  # noqa: SIM115, as long as the process lives
    sys.exit(program(*arguments))
