//! The port through which sisters see admission, and its gRPC adapter.
