//! What tests of limits share, here and in whoever does the same arithmetic on a store: a reference model that is naive
//! and obviously right, a shelf in memory, and random histories. Only with the feature `testing`.
//!
//! A comparison plays a [`Scenario`] with a [`Player`]: it makes the steps, [`Model::apply`] says what must come out,
//! and the store under test must say the same.

mod corrupt;
mod memory;
mod model;
mod scenario;

pub use corrupt::any_state;
pub use memory::{Memory, Note};
pub use model::Model;
pub use scenario::{Action, Event, Played, Player, Scenario, charge, limit, rate, scenario};

#[cfg(test)]
mod tests;
