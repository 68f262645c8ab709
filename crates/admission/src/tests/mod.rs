//! The service in process, through its layers, over the embedded store.

pub(crate) mod crash;
mod erase;
mod faulty;
pub(crate) mod fixture;
mod late;
mod limits;
mod races;
mod refusals;
mod store;
mod story;
mod wait;
