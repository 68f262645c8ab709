#!/bin/sh
# Lints the contracts, and holds them against the last commit: against HEAD while they are being changed, against the
# commit before it once the change is committed.
set -eu
cd "$(dirname -- "$0")/../.."
buf lint proto
if ! git rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
    exit 0
fi
against=HEAD
if [ -z "$(git status --porcelain -- proto)" ]; then
    if git rev-parse --quiet --verify HEAD~1 >/dev/null; then
        against=HEAD~1
    else
        echo "contracts.sh: this clone has no history, so the contracts are compared with nothing" >&2
        exit 0
    fi
fi
# Nothing to compare with before the contracts were first laid down, or in a clone without history.
git cat-file -e "$against:proto/buf.yaml" 2>/dev/null || exit 0
old=target/contracts-before
rm -rf "$old" && mkdir -p "$old"
git archive "$against" proto | tar -x -C "$old"
buf breaking proto --against "$old/proto"
