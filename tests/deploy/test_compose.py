"""deploy/compose.yaml: the files and names that it mentions exist. Docker is not run."""

import re

from tests.deploy.replicas import CONFIG, DEPLOY

COMPOSE = (DEPLOY / "compose.yaml").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_nginx_servers_are_compose_services() -> None:
    servers = re.findall(r"server (\w+):8080", CONFIG)
    assert servers == ["app1", "app2"]
    assert [name for name in re.findall(r"^  (\w+):$", COMPOSE, re.MULTILINE) if name.startswith("app")] == servers


def test_mounted_and_built_files_exist() -> None:
    mounted = re.findall(r"- \./(\S+?):/", COMPOSE)
    assert mounted == ["nginx.conf", "shop.sql"]
    assert all((DEPLOY / name).is_file() for name in mounted)
    [dockerfile] = re.findall(r"dockerfile: (\S+)", COMPOSE)
    assert DEPLOY.parent / dockerfile == DEPLOY / "Dockerfile"
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.+)", DOCKERFILE, re.MULTILINE)]
    assert all((DEPLOY.parent / name).exists() for names in copied for name in names)


def test_environment_variables_are_set() -> None:
    asked = set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", (DEPLOY / "app.py").read_text()))
    assert asked == {"DATABASE_URL", "HOST", "PORT"}
    assert "DATABASE_URL:" in COMPOSE
    assert re.search(r"^ENV HOST=0\.0\.0\.0 PORT=8080$", DOCKERFILE, re.MULTILINE)
