#!/usr/bin/env python3
"""A client that shares no code with Gantry: stubs generated from proto/ by protoc, grpcio on top.

Takes a container through its whole life and checks the answers and events on the way. The bundle's
process is expected to copy its stdin to its stdout and to exit with status 7 at the end of it.
"""

import argparse
import os
import pathlib
import queue
import sys
import tempfile
import threading

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_tools import protoc

PATIENCE = 60


def generate(proto, out):
    """Generates the stubs in the directory `out` and imports them."""
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    failed = protoc.main([
        "protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={out}",
        f"--grpc_python_out={out}", "types/api.proto",
    ])
    assert not failed, "protoc cannot compile the contract"
    # The package is called like a module of the standard library: only its files can be imported.
    source = pathlib.Path(out, "types")
    grpc_stubs = source / "api_pb2_grpc.py"
    text = grpc_stubs.read_text().replace("from types import api_pb2", "import api_pb2")
    grpc_stubs.write_text(text)
    sys.path.insert(0, str(source))
    import api_pb2
    import api_pb2_grpc
    return api_pb2, api_pb2_grpc


class Events:
    """Follows the events of one container and hands them out one by one."""

    def __init__(self, api, types, container):
        self.seen = queue.Queue()
        request = types.EventsRequest(id=container, timestamp=Timestamp(seconds=1))
        self.stream = api.Events(request)
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        try:
            for event in self.stream:
                self.seen.put(event)
        except grpc.RpcError:
            pass

    def expect(self, kind, pid, status=0):
        event = self.seen.get(timeout=PATIENCE)
        assert (event.type, event.pid, event.status) == (kind, pid, status), event


class Pipes:
    """The named pipes of a process, opened as a daemon does."""

    def __init__(self, directory, process):
        self.paths = {}
        for stream in ("stdin", "stdout", "stderr"):
            path = os.path.join(directory, f"{process}-{stream}")
            os.mkfifo(path, 0o700)
            self.paths[stream] = path
        self.stdout = os.open(self.paths["stdout"], os.O_RDONLY | os.O_NONBLOCK)
        self.stdin = os.open(self.paths["stdin"], os.O_RDWR)

    def write(self, data):
        os.write(self.stdin, data)

    def close_stdin(self):
        os.close(self.stdin)

    def read(self):
        os.set_blocking(self.stdout, True)
        with os.fdopen(self.stdout, "rb") as stdout:
            return stdout.read()


def expect_error(call, code, phrase):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code and phrase in error.details(), error
    else:
        raise AssertionError(f"no error, expected {code}")


def life(api, types, args):
    """One container, from creation to its last event."""
    events = Events(api, types, args.id)
    version = api.GetServerVersion(types.GetServerVersionRequest())
    assert version.major + version.minor + version.patch > 0, version

    pipes = Pipes(args.dir, "init")
    request = types.CreateContainerRequest(
        id=args.id, bundlePath=args.bundle, labels=["made=by-python"], **pipes.paths)
    container = api.CreateContainer(request).container
    assert [p.pid for p in container.processes] == ["init"], container
    assert os.path.exists(f"/proc/{container.processes[0].systemPid}"), container
    events.expect("start-container", "")
    expect_error(lambda: api.CreateContainer(request), grpc.StatusCode.ALREADY_EXISTS, args.id)

    exec_pipes = Pipes(args.dir, "extra")
    response = api.AddProcess(types.AddProcessRequest(
        id=args.id, pid="extra", args=["sh", "-c", "echo from exec; exit 3"], env=["PATH=/bin"],
        cwd="/", user=types.User(uid=0, gid=0), **exec_pipes.paths))
    assert response.systemPid > 0, response
    events.expect("start-process", "extra")
    events.expect("exit", "extra", 3)
    assert exec_pipes.read() == b"from exec\n"

    state = api.State(types.StateRequest(id=args.id)).containers[0]
    assert (state.status, list(state.labels)) == ("running", ["made=by-python"]), state
    stats = api.Stats(types.StatsRequest(id=args.id))
    assert stats.cgroup_stats.pids_stats.current >= 1, stats

    api.UpdateContainer(types.UpdateContainerRequest(id=args.id, status="paused"))
    events.expect("pause", "")
    api.UpdateContainer(types.UpdateContainerRequest(id=args.id, status="running"))
    events.expect("resume", "")

    expect_error(
        lambda: api.Signal(types.SignalRequest(id=args.id, pid="none", signal=15)),
        grpc.StatusCode.NOT_FOUND, "process not found")
    pipes.write(b"copied by the container\n")
    pipes.close_stdin()
    api.UpdateProcess(types.UpdateProcessRequest(id=args.id, pid="init", closeStdin=True))
    events.expect("exit", "init", 7)
    assert pipes.read() == b"copied by the container\n"
    expect_error(
        lambda: api.State(types.StateRequest(id=args.id)),
        grpc.StatusCode.NOT_FOUND, "container not found")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proto", required=True, help="directory of the contract")
    parser.add_argument("--socket", required=True, help="path of the server's socket")
    parser.add_argument("--bundle", required=True, help="OCI bundle")
    parser.add_argument("--id", required=True, help="id of the container")
    parser.add_argument("--dir", required=True, help="empty directory for the pipes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        types, stubs = generate(args.proto, out)
    with grpc.insecure_channel(f"unix://{args.socket}") as channel:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        life(stubs.APIStub(channel), types, args)
    print("whole life: ok")


if __name__ == "__main__":
    main()
