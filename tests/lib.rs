//! Promises and house rules, tested from outside. See `tests/README.md`.
