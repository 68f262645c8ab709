//! The service in process, through its layers, over the embedded store.

mod fixture;
mod races;
mod refusals;
mod store;
mod story;
