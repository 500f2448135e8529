"""Images of servers as people have them, which know nothing of Lambda or Hearth: they run as they are, as HTTP services."""

import http.client
import json

import pytest

from harness import images
from harness.server import ACCOUNT, invoke
from harness.wait import wait_for


class Service:
    """A deployed image and how to ask it."""

    def __init__(self, server, name):
        self.server, self.name = server, name

    def ask(self, path="/", timeout=110):
        connection = http.client.HTTPConnection(*self.server.address, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": f"{self.name}.{ACCOUNT}.localhost"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def log(self):
        return self.server.command("logs", self.name).stdout


@pytest.fixture(scope="module", params=["containers", "machines"])
def shared(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def lambda_client(shared):
    return shared.client()


@pytest.fixture
def deploy(shared, tmp_path, name):
    """Deploys an image as a service."""

    def make(image, port, timeout=100):
        layout = image.write_layout(tmp_path / "layout")
        deployed = shared.command("deploy", f"oci:{layout}", "--name", name, "--memory", "256", "--timeout", str(timeout), "--http-port", str(port))
        assert deployed.returncode == 0, deployed.stderr
        assert f"{name}" in deployed.stderr and "curl" in deployed.stderr
        return Service(shared, name)

    return make


def test_nginx_begins_as_root_listens_on_port_80_and_drops_to_its_user(deploy, tmp_path):
    service = deploy(images.of_nginx(tmp_path), 80)
    assert service.ask() == (200, "<h1>hello from nginx</h1>"), service.log()
    assert service.ask("/nothing")[0] == 404
    # What it logs to its files comes out where an instance's output does, by the names /dev/stdout and /dev/stderr.
    wait_for(lambda: '"GET /nothing HTTP/1.1" 404' in service.log(), "nginx's log is there")
    assert "[emerg]" not in service.log() and "[alert]" not in service.log(), service.log()


GUNICORN = """
import os, json
def app(environ, start_response):
    with open("/srv/data/seen", "a") as file:
        file.write("x")
    def denied(path, mode="a"):
        try:
            open(path, mode).close()
        except PermissionError:
            return True
    start_response("200 OK", [("Content-Type", "application/json")])
    seen = {"uid": os.getuid(), "gid": os.getgid(), "home": os.environ["HOME"], "cwd": os.getcwd(),
            "owner": os.stat("/srv/data").st_uid, "root": os.stat("/usr").st_uid, "shadow": denied("/etc/passwd")}
    return [json.dumps(seen).encode()]
"""


def test_gunicorn_runs_as_the_user_that_its_image_made_and_owns_what_is_its(deploy, tmp_path):
    service = deploy(images.of_gunicorn(tmp_path, GUNICORN), 8000)
    status, body = service.ask()
    assert status == 200, (body, service.log())
    expected = {"uid": 10001, "gid": 10001, "home": "/srv", "cwd": "/srv", "owner": 10001, "root": 0, "shadow": True}
    assert json.loads(body) == expected


NODE = """
import http from 'node:http'; import fs from 'node:fs';
http.createServer((request, response) => {
  fs.appendFileSync('/home/node/seen', 'x');
  response.end(JSON.stringify({ uid: process.getuid(), home: process.env.HOME, path: request.url }));
}).listen(process.env.PORT);
"""


def test_node_runs_as_its_user_and_listens_where_port_says(deploy, tmp_path, node, runtimes):
    program = next(runtime["interpreter"] for runtime in runtimes if runtime["name"] == node)
    service = deploy(images.of_node(tmp_path, program, NODE), 3000)
    status, body = service.ask("/a?b=c")
    assert status == 200, (body, service.log())
    assert json.loads(body) == {"uid": 1000, "home": "/home/node", "path": "/a?b=c"}


def test_a_static_program_and_nothing_else_is_an_image(deploy, static_server):
    service = deploy(images.of_program(static_server), 80)
    assert service.ask("/x") == (200, "/x by 0\n")


def test_a_lambda_image_runs_as_the_ordinary_user_whatever_holds_it(shared, lambda_client, static_echo, tmp_path, name):
    layout = images.of_program(static_echo, User="0").write_layout(tmp_path / "layout")
    deployed = shared.command("deploy", f"oci:{layout}", "--name", name, "--timeout", "60")
    assert deployed.returncode == 0, deployed.stderr
    value, answer = invoke(lambda_client, name, {"name": "Ada"})
    assert answer.get("FunctionError") is None and value["message"] == "Hello, Ada, from Rust!", value


def test_an_image_whose_user_is_nobodys_name_is_refused_in_words(containers, static_server, tmp_path):
    layout = images.of_program(static_server, User="nobodys").write_layout(tmp_path / "layout")
    deployed = containers.command("deploy", f"oci:{layout}", "--name", "nobodys", "--http-port", "80")
    assert deployed.returncode != 0 and '"nobodys" is no user of its /etc/passwd' in deployed.stderr, deployed.stderr


def test_a_server_that_listens_late_is_waited_for(deploy, static_server):
    service = deploy(images.of_program(static_server, Cmd=["late"]), 8080)
    assert service.ask() == (200, "/ by 0\n")


def test_a_server_that_never_listens_is_given_up_and_said(deploy, static_server):
    service = deploy(images.of_program(static_server, Cmd=["never"]), 8080, timeout=1)
    assert service.ask()[0] == 502
    wait_for(lambda: "port 8080" in service.log(), "the log says what was waited for")


def test_a_server_that_exits_at_once_is_said_with_its_status(deploy, static_server):
    service = deploy(images.of_program(static_server, Cmd=["exit"]), 8080)
    assert service.ask()[0] == 502
    wait_for(lambda: "exit status 3" in service.log(), "the log says how it ended")


def test_a_server_that_ignores_sigterm_is_ended_all_the_same(deploy, static_server, shared):
    service = deploy(images.of_program(static_server, Cmd=["deaf"]), 8080)
    assert service.ask()[0] == 200
    shared.client().delete_function(FunctionName=service.name)
    wait_for(lambda: not shared.instances(service.name), "its instance is gone")
