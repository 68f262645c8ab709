//! The connector service: executes connectors for contacts.
