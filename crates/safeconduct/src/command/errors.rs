//! `errors`: the page of a reason.

use safeconduct_types::Reason;

use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

pub(crate) fn run(reason: Option<&str>) -> Outcome {
    let Some(asked) = reason else {
        for reason in Reason::ALL {
            say!("{:<28} {}", reason.as_str(), reason.summary());
        }
        return Ok(Code::SUCCESS);
    };
    let name = asked.to_ascii_uppercase().replace('-', "_");
    match PAGES.iter().find(|(page, _)| *page == name) {
        Some((_, text)) => {
            say!("{}", text.trim_end());
            Ok(Code::SUCCESS)
        }
        None => Err(Failure::usage(format!("there is no reason `{name}`; `safeconduct errors` lists them"))),
    }
}
