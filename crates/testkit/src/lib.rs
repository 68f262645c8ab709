//! Real counterparts for tests: Redis, a scripted upstream, a span collector, the suite in one process.
