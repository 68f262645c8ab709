//! `sample-shop`: somebody else's API, to try connectors against.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use crate::exit::{Code, Failure, Outcome};
use crate::say::{complain, say};
use crate::serve::write_ready;

pub(crate) fn run(listen: SocketAddr, ready_file: Option<&Path>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let tell = |address: SocketAddr| {
        let written = ready_file.map(|path| write_ready(path, &BTreeMap::from([("shop", address.to_string())])));
        match written {
            None => say!("the sample shop listens on http://{address}"),
            Some(Ok(())) => {}
            Some(Err(failure)) => complain!("{failure}"),
        }
    };
    runtime.block_on(safeconduct_sample_shop::bind_and_serve(listen, tell)).map_err(Failure::unavailable)?;
    Ok(Code::SUCCESS)
}
