//! Whether a value is one of the contact's own.
//!
//! The list is the shaped output of a connector that was run for this contact. Values are compared by JSON type and
//! value. A value that is found is the contact's, even in a list that was cut off; a value that is not found in such a
//! list is not known to be anybody's, so that is never answered with "not yours".

use safeconduct_types::{Reason, Refusal};
use serde_json::Value;

use crate::definition::{Choices, InputName};
use crate::json::same;
use crate::projection::Shaped;

/// Checks that the value is in the list.
pub fn check_member(input: &InputName, choices: &Choices, list: &Shaped, value: &Value) -> Result<(), Refusal> {
    let items = items(choices, &list.output);
    let found = items.iter().flatten().any(|item| {
        // An item without one value cannot be picked.
        choices.value.query(item).exactly_one().is_ok_and(|own| same(own, value))
    });
    if found {
        return Ok(());
    }
    let whole = list.truncated.is_empty()
        && items.is_some_and(|items| u32::try_from(items.len()).is_ok_and(|count| count <= choices.max));
    let (reason, detail) = if whole {
        (Reason::NotYours, format!("inputs.{input} is not in the contact's own list; pick from it"))
    } else {
        (
            Reason::ChoicesIncomplete,
            format!(
                "the contact's list for inputs.{input} could not be read to its end, so it is not known whether this is in it"
            ),
        )
    };
    Err(Refusal::new(reason, detail)
        .with_metadata("input", input.as_str())
        .with_metadata("list", choices.connector.as_str()))
}

/// The items of the list; `None` if there is no list where one is declared.
fn items<'a>(choices: &Choices, output: &'a Value) -> Option<Vec<&'a Value>> {
    let found = choices.items.query(output).all();
    match found.as_slice() {
        [Value::Array(items)] => Some(items.iter().collect()),
        [] => None,
        _ => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::projection::parse_path;

    fn check(list: Value, truncated: &[&str], value: &Value) -> Result<(), Reason> {
        let choices = Choices {
            connector: "list-orders".parse().unwrap(),
            items: parse_path("$.orders").unwrap(),
            value: parse_path("$.id").unwrap(),
            max: 3,
        };
        let list = Shaped { output: list, truncated: truncated.iter().map(|one| (*one).to_owned()).collect() };
        check_member(&"order_id".parse().unwrap(), &choices, &list, value).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn a_value_of_the_list_is_the_contacts() {
        assert_eq!(check(json!({"orders": [{"id": "a"}, {"id": "b"}]}), &[], &json!("b")), Ok(()));
    }

    #[test]
    fn another_value_is_not_nor_is_another_type() {
        let list = json!({"orders": [{"id": "1"}, {"name": "x"}]});
        for value in [json!("2"), json!(1), json!("x"), json!(null), json!({"id": "1"})] {
            assert_eq!(check(list.clone(), &[], &value), Err(Reason::NotYours), "{value}");
        }
        assert_eq!(check(json!({"orders": []}), &[], &json!("a")), Err(Reason::NotYours));
    }

    #[test]
    fn a_list_that_was_cut_off_never_says_not_yours() {
        let list = json!({"orders": [{"id": "a"}]});
        assert_eq!(check(list.clone(), &["/orders"], &json!("b")), Err(Reason::ChoicesIncomplete));
        assert_eq!(check(list, &["/orders"], &json!("a")), Ok(()));
        let long = json!({"orders": [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]});
        assert_eq!(check(long, &[], &json!(5)), Err(Reason::ChoicesIncomplete));
        assert_eq!(check(json!({}), &[], &json!("a")), Err(Reason::ChoicesIncomplete));
    }
}
