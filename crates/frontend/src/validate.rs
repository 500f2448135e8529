//! Checks a request against a shape of Lambda's model and says everything that is wrong with it at once.
//!
//! The sentences are Lambda's own, because people search for them and scripts match on them.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use regex_lite::Regex;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// A member of a structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) required: bool,
}

/// What a value must look like.
#[derive(Debug)]
pub(crate) enum Shape {
    Text { min: usize, max: usize, pattern: &'static str, secret: bool },
    Tag { min: usize, max: usize },
    Enum(&'static [&'static str]),
    Integer { min: i64, max: i64 },
    Number,
    Boolean,
    List { min: usize, max: usize, member: &'static Shape },
    Map { key: &'static Shape, value: &'static Shape, secret: bool },
    Structure(&'static [Field]),
}

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<String>);

/// More than these are counted but not told.
const TOLD: usize = 20;
/// Characters of a wrong value that are repeated to the caller.
const ECHOED: usize = 512;

impl Violations {
    /// Notes that `value` at `path` breaks `constraint`.
    pub(crate) fn note(&mut self, value: &str, path: &str, constraint: &str) {
        let value: String = value.chars().take(ECHOED).collect();
        self.0.push(format!("Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"));
    }

    fn note_hidden(&mut self, path: &str, constraint: &str) {
        self.0.push(format!("Value at '{path}' failed to satisfy constraint: {constraint}"));
    }

    /// Notes that the member at `path` is not there.
    pub(crate) fn missing(&mut self, path: &str) {
        self.0.push(format!("Value null at '{path}' failed to satisfy constraint: Member must not be null"));
    }

    /// Notes what is wrong with a text that came in a path, a query or a header.
    pub(crate) fn text(&mut self, value: &str, path: &str, shape: &Shape) {
        for constraint in scalar_problems(&Value::String(value.to_owned()), shape) {
            self.note(value, path, &constraint);
        }
    }

    /// Notes what is wrong with a number that came in a query.
    pub(crate) fn number(&mut self, value: i64, path: &str, shape: &Shape) {
        for constraint in scalar_problems(&value.into(), shape) {
            self.note(&value.to_string(), path, &constraint);
        }
    }

    /// `Err` with all violations, if there are any.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let count = self.0.len();
        if count == 0 {
            return Ok(());
        }
        let noun = if count == 1 { "error" } else { "errors" };
        let told: Vec<_> = self.0.into_iter().take(TOLD).collect();
        Err(ApiError::validation(format!("{count} validation {noun} detected: {}", told.join("; "))))
    }

    /// Notes everything wrong with the members of a request's body.
    ///
    /// # Errors
    /// A value is of another JSON type than the shape's, which ends the check.
    pub(crate) fn body(&mut self, body: &Map<String, Value>, shape: &Shape) -> Result<(), ApiError> {
        match shape {
            Shape::Structure(fields) => self.members(body, fields, ""),
            _ => Ok(()),
        }
    }

    fn members(&mut self, body: &Map<String, Value>, fields: &[Field], prefix: &str) -> Result<(), ApiError> {
        for field in fields {
            let path = format!("{prefix}{}", lower_first(field.name));
            match body.get(field.name) {
                None | Some(Value::Null) if field.required => self.missing(&path),
                None | Some(Value::Null) => {}
                Some(value) => self.value(value, field.shape, &path)?,
            }
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, shape: &Shape, path: &str) -> Result<(), ApiError> {
        check_type(value, shape)?;
        match (shape, value) {
            (Shape::Structure(fields), Value::Object(object)) => {
                self.members(object, fields, &format!("{path}."))?;
            }
            (Shape::List { min, max, member }, Value::Array(items)) => {
                self.list(items, (*min, *max), member, path)?;
            }
            (Shape::Map { key, value, secret }, Value::Object(object)) => {
                self.map(object, (key, value), *secret, path)?;
            }
            (Shape::Text { secret: true, .. }, _) => {
                scalar_problems(value, shape).iter().for_each(|c| self.note_hidden(path, c));
            }
            _ => {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                scalar_problems(value, shape).iter().for_each(|c| self.note(&shown, path, c));
            }
        }
        Ok(())
    }

    fn list(
        &mut self,
        items: &[Value],
        bounds: (usize, usize),
        member: &Shape,
        path: &str,
    ) -> Result<(), ApiError> {
        let texts: Vec<_> = items.iter().map(|i| i.as_str().unwrap_or("...")).collect();
        let shown = format!("[{}]", texts.join(", "));
        length_problems(items.len(), bounds.0, bounds.1).iter().for_each(|c| self.note(&shown, path, c));
        for (index, item) in items.iter().enumerate() {
            if matches!(member, Shape::Structure(_)) {
                self.value(item, member, &format!("{path}.{}.member", index + 1))?;
                continue;
            }
            check_type(item, member)?;
            let problems = scalar_problems(item, member);
            if !problems.is_empty() {
                let all = problems.join(", ");
                self.note(&shown, path, &format!("Member must satisfy constraint: [{all}]"));
                break;
            }
        }
        Ok(())
    }

    fn map(
        &mut self,
        object: &Map<String, Value>,
        (key_shape, value_shape): (&Shape, &Shape),
        secret: bool,
        path: &str,
    ) -> Result<(), ApiError> {
        for (key, value) in object {
            check_type(value, value_shape)?;
            let wrong_key = scalar_problems(&Value::String(key.clone()), key_shape);
            // Hearth's own tags are checked by their own grammar, which needs a comma.
            let own = matches!(key_shape, Shape::Tag { .. }) && key.starts_with("hearth:");
            let wrong_value = if own { Vec::new() } else { scalar_problems(value, value_shape) };
            for (what, wrong) in [("keys", wrong_key), ("value", wrong_value)] {
                if wrong.is_empty() {
                    continue;
                }
                let constraint = format!("Map {what} must satisfy constraint: [{}]", wrong.join(", "));
                if secret {
                    self.note_hidden(path, &constraint);
                } else {
                    self.note(&format!("{{{key}={}}}", value.as_str().unwrap_or("")), path, &constraint);
                }
            }
        }
        Ok(())
    }
}

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

fn check_type(value: &Value, shape: &Shape) -> Result<(), ApiError> {
    let wanted = match (shape, value) {
        (Shape::Text { .. } | Shape::Tag { .. } | Shape::Enum(_), Value::String(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::List { .. }, Value::Array(_))
        | (Shape::Map { .. } | Shape::Structure(_), Value::Object(_)) => return Ok(()),
        (Shape::Integer { .. }, Value::Number(number)) if number.is_i64() => return Ok(()),
        (Shape::Integer { .. }, _) => "an Integer",
        (Shape::Number, _) => "a Double",
        (Shape::Boolean, _) => "a Boolean",
        (Shape::List { .. }, _) => "a List",
        (Shape::Map { .. } | Shape::Structure(_), _) => "a Map",
        (Shape::Text { .. } | Shape::Tag { .. } | Shape::Enum(_), _) => "a String",
    };
    let found = match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    };
    Err(ApiError::serialization(format!("{found} can not be converted to {wanted}")))
}

fn length_problems(length: usize, min: usize, max: usize) -> Vec<String> {
    if length < min {
        vec![format!("Member must have length greater than or equal to {min}")]
    } else if length > max {
        vec![format!("Member must have length less than or equal to {max}")]
    } else {
        Vec::new()
    }
}

fn scalar_problems(value: &Value, shape: &Shape) -> Vec<String> {
    match (shape, value) {
        (Shape::Text { min, max, pattern, .. }, Value::String(text)) => {
            let mut problems = length_problems(text.chars().count(), *min, *max);
            // A text beyond its bound is not worth the pattern's time.
            if !pattern.is_empty() && text.len() <= max.saturating_mul(4) && !matches(pattern, text) {
                problems.push(format!("Member must satisfy regular expression pattern: {pattern}"));
            }
            problems
        }
        (Shape::Tag { min, max }, Value::String(text)) => {
            let mut problems = length_problems(text.chars().count(), *min, *max);
            if !text.chars().all(tag_character) {
                problems.push(
                    r"Member must satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"
                        .to_owned(),
                );
            }
            problems
        }
        (Shape::Enum(words), Value::String(text)) if !words.contains(&text.as_str()) => {
            vec![format!("Member must satisfy enum value set: [{}]", words.join(", "))]
        }
        (Shape::Integer { min, max }, Value::Number(number)) => match number.as_i64() {
            Some(number) if number < *min => {
                vec![format!("Member must have value greater than or equal to {min}")]
            }
            Some(number) if number > *max => {
                vec![format!("Member must have value less than or equal to {max}")]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// `\p{L}`, `\p{Z}`, `\p{N}` and a few signs.
fn tag_character(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

/// Whether the whole of `text` matches; patterns are compiled once.
fn matches(pattern: &'static str, text: &str) -> bool {
    // The only look-ahead in the model, which the regular expressions here have not: no mere number is an alias.
    let pattern = match pattern.strip_prefix("(?!^[0-9]+$)") {
        Some(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => return false,
        rest => rest.unwrap_or(pattern),
    };
    static COMPILED: LazyLock<RwLock<HashMap<&'static str, Option<Regex>>>> = LazyLock::new(RwLock::default);
    if let Some(known) = COMPILED.read().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return known.as_ref().is_none_or(|regex| regex.is_match(text));
    }
    let regex = Regex::new(&format!("^(?:{pattern})$"))
        .inspect_err(|error| tracing::error!(pattern, %error, "a pattern of the model does not compile"))
        .ok();
    let matched = regex.as_ref().is_none_or(|regex| regex.is_match(text));
    COMPILED.write().unwrap_or_else(PoisonError::into_inner).insert(pattern, regex);
    matched
}

#[cfg(test)]
mod tests;
