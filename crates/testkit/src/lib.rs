//! Real counterparts for tests: a Redis of the test's own, the sample shop as an upstream, a span collector, and the
//! suite as real processes of the real binary, in one process or in four.
//!
//! Owns how a test starts, reaches, kills and ends them. Refuses to own any expectation: what must hold stands in
//! `tests/suite`. Nothing here sleeps to let something happen; it asks again until it has, within a bound, and says
//! what it waited for when the time is over ([`until`]).
//!
//! Ports are free ones that the processes report in their ready files. Each test has its own folder, store and
//! processes; all of it ends when the value that stands for it is dropped.

pub mod admission;
mod binary;
mod caller;
mod mail;
mod page;
mod process;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod refused;
mod shop;
mod site;
mod suite;
mod wait;

pub use binary::safeconduct;
pub use caller::{Ask, Authorized, Bearer, Caller, ShopUser, user_hash, user_hash_of};
pub use mail::{HttpSink, Mail, MailSink, MailTls};
pub use page::Page;
pub use process::{Output, Process, run};
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use redis_sentinel::RedisSentinel;
pub use refused::{Refused, error_info, has_error_info};
pub use safeconduct_telemetry::collector::{CollectedSpan, Collector};
pub use shop::{Effects, Refund, Shop};
pub use site::{MESSENGER_SECRET, Site, token};
pub use suite::{Layout, Options, Servers, Store, Suite};
pub use wait::until;
