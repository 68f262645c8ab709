//! What the values of an attribute are like: the part of JSON Schema 2020-12 that says so of one value.

use serde::Deserialize;
use serde_json::{Number, Value};

/// Most values of an enumeration.
const MAX_ENUM: usize = 256;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}

/// What a value must be like. The empty one takes every value within the bounds of all attributes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schema {
    r#type: Option<Type>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    minimum: Option<Number>,
    maximum: Option<Number>,
    max_items: Option<usize>,
    r#enum: Option<Vec<Value>>,
}

impl Schema {
    /// Text of at most so many characters.
    pub(super) fn text(max: usize) -> Self {
        Self { r#type: Some(Type::String), max_length: Some(max), ..Self::default() }
    }

    /// Whether it can be meant: a bound belongs to a type, and something must fit.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is = |wanted: &[Type]| self.r#type.is_some_and(|one| wanted.contains(&one));
        if (self.min_length.is_some() || self.max_length.is_some()) && !is(&[Type::String]) {
            return Err("minLength and maxLength need `type: string`");
        }
        if (self.minimum.is_some() || self.maximum.is_some()) && !is(&[Type::Integer, Type::Number]) {
            return Err("minimum and maximum need `type: integer` or `type: number`");
        }
        if self.max_items.is_some() && !is(&[Type::Array]) {
            return Err("maxItems needs `type: array`");
        }
        let crossed = |low: Option<&Number>, high: Option<&Number>| match (low, high) {
            (Some(low), Some(high)) => at_most(low, high) == Some(false),
            (_, _) => false,
        };
        if self.min_length.zip(self.max_length).is_some_and(|(low, high)| low > high)
            || crossed(self.minimum.as_ref(), self.maximum.as_ref())
        {
            return Err("its bounds leave nothing");
        }
        match &self.r#enum {
            Some(values) if values.is_empty() || values.len() > MAX_ENUM => Err("enum needs 1 to 256 values"),
            Some(values) if values.iter().any(|value| !self.fits_bounds(value)) => {
                Err("a value of enum does not fit the rest of the schema")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the value fits; what would be right, if not. Never repeats the value.
    pub fn fits(&self, value: &Value) -> Result<(), String> {
        if !self.fits_bounds(value) {
            return Err(self.describe());
        }
        match &self.r#enum {
            Some(values) if !values.contains(value) => Err("must be one of the declared values".to_owned()),
            Some(_) | None => Ok(()),
        }
    }

    fn fits_bounds(&self, value: &Value) -> bool {
        let Some(wanted) = self.r#type else { return true };
        match (wanted, value) {
            (Type::String, Value::String(text)) => {
                let length = text.chars().count();
                self.min_length.is_none_or(|least| length >= least) && self.max_length.is_none_or(|most| length <= most)
            }
            (Type::Integer, Value::Number(number)) => whole(number).is_some() && self.within(number),
            (Type::Number, Value::Number(number)) => self.within(number),
            (Type::Boolean, Value::Bool(_)) | (Type::Object, Value::Object(_)) => true,
            (Type::Array, Value::Array(items)) => self.max_items.is_none_or(|most| items.len() <= most),
            (_, _) => false,
        }
    }

    /// Deny by default: a number that cannot be compared is not within.
    fn within(&self, number: &Number) -> bool {
        let least = self.minimum.as_ref().is_none_or(|least| at_most(least, number) == Some(true));
        least && self.maximum.as_ref().is_none_or(|most| at_most(number, most) == Some(true))
    }

    fn describe(&self) -> String {
        let kind = match self.r#type {
            Some(Type::String) => "a string",
            Some(Type::Integer) => "an integer",
            Some(Type::Number) => "a number",
            Some(Type::Boolean) => "true or false",
            Some(Type::Array) => "an array",
            Some(Type::Object) => "an object",
            None => "a value",
        };
        let lengths = [("at least", self.min_length), ("at most", self.max_length)]
            .map(|(name, bound)| bound.map(|bound| format!("{name} {bound} characters")));
        let ranges = [("at least", &self.minimum), ("at most", &self.maximum)]
            .map(|(name, bound)| bound.as_ref().map(|bound| format!("{name} {bound}")));
        let items = self.max_items.map(|most| format!("at most {most} items"));
        let bounds = lengths.into_iter().chain(ranges).chain([items]).flatten();
        std::iter::once(format!("must be {kind}")).chain(bounds).collect::<Vec<_>>().join(", ")
    }
}

/// The number, if it is written as a whole one that fits 128 bits.
fn whole(number: &Number) -> Option<i128> {
    number.to_string().parse().ok()
}

/// Whether `a` is at most `b`: exactly for whole numbers, as doubles otherwise.
fn at_most(a: &Number, b: &Number) -> Option<bool> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a <= b),
        (_, _) => Some(a.as_f64()? <= b.as_f64()?),
    }
}
