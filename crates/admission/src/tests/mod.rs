//! The service in process, through its layers, over the embedded store.

mod access;
pub(crate) mod crash;
mod erase;
pub(crate) mod faulty;
pub(crate) mod fixture;
mod healing;
mod late;
mod limits;
mod races;
mod refusals;
mod store;
mod story;
mod wait;
