//! Event patterns, as filters of event source mappings are: which documents they describe. Pure.
//!
//! A pattern has the shape of the documents that it describes, with the values that a field may have in a list. Sources:
//! docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html and
//! docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html. A public library, quamina, compiles many such
//! patterns into one machine; it lacks `$or`, and here a message meets five patterns at most.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

/// What joins patterns of which one has to describe the document.
const OR: &str = "$or";
/// Numbers that a comparison may name.
const LARGEST: f64 = 5e9;

/// Why something is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// Something in it is not what it has to be.
    #[error("{place}: {what}")]
    Wrong {
        /// Names of fields, from the outermost on.
        place: String,
        /// What it has to be.
        what: String,
    },
}

/// What a document has to be like.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    /// All of these.
    fields: Vec<(String, Field)>,
    /// And one of each of these.
    either: Vec<Vec<Pattern>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Nested(Pattern),
    /// One of these.
    Leaf(Values, Vec<Test>),
}

/// Values that are meant as they are. Looked up, not gone through: a hostile message has as many as a hostile pattern.
#[derive(Clone, Debug, Default, PartialEq)]
struct Values {
    texts: HashSet<String>,
    /// As the bits of floating numbers.
    numbers: HashSet<u64>,
    booleans: [bool; 2],
    null: bool,
}

/// What a value has to be like.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text(Text),
    NoneOf(Values, Vec<Text>),
    Number(Vec<(Order, f64)>),
    Exists(bool),
}

#[derive(Clone, Debug, PartialEq)]
enum Text {
    Begins(String),
    Ends(String),
    /// In lower case.
    Same(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Equal,
    Less,
    AtMost,
    More,
    AtLeast,
}

fn wrong(place: &str, what: impl Into<String>) -> PatternError {
    let place = if place.is_empty() { "the pattern" } else { place };
    PatternError::Wrong { place: place.to_owned(), what: what.into() }
}

// === impl Pattern ===

impl Pattern {
    /// Reads one.
    pub(crate) fn read(text: &str) -> Result<Self, PatternError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| PatternError::Json(error.to_string()))?;
        Self::of(&value, "")
    }

    fn of(value: &Value, place: &str) -> Result<Self, PatternError> {
        let members = value.as_object().ok_or_else(|| wrong(place, "it has to be an object"))?;
        if members.is_empty() {
            return Err(wrong(place, "it says nothing"));
        }
        let mut pattern = Self { fields: Vec::new(), either: Vec::new() };
        for (name, value) in members {
            let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            if name == OR {
                let all = value.as_array().filter(|all| all.len() > 1);
                let all = all.ok_or_else(|| wrong(&place, "it has to be a list of two patterns or more"))?;
                let all: Result<_, _> = all.iter().map(|one| Self::of(one, &place)).collect();
                pattern.either.push(all?);
                continue;
            }
            let field = match value {
                Value::Object(_) => Field::Nested(Self::of(value, &place)?),
                Value::Array(all) if !all.is_empty() => {
                    let (mut values, mut tests) = (Values::default(), Vec::new());
                    for one in all {
                        match one.as_object() {
                            Some(operator) => tests.push(Test::of(operator, &place)?),
                            None => values.add(one, &place)?,
                        }
                    }
                    Field::Leaf(values, tests)
                }
                _ => return Err(wrong(&place, "it has to be an object or a list of values")),
            };
            pattern.fields.push((name.clone(), field));
        }
        Ok(pattern)
    }

    /// Whether it describes that document. Of a list, any member may be meant.
    pub(crate) fn describes(&self, document: &Value) -> bool {
        match document {
            Value::Object(members) => self.describes_object(members),
            Value::Array(items) => items.iter().any(|item| self.describes(item)),
            // Nothing is below it.
            _ => self.describes_object(&Map::new()),
        }
    }

    fn describes_object(&self, members: &Map<String, Value>) -> bool {
        self.fields.iter().all(|(name, field)| field.describes(members.get(name)))
            && self.either.iter().all(|all| all.iter().any(|one| one.describes_object(members)))
    }
}

impl Field {
    fn describes(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Nested(pattern), Some(value)) => pattern.describes(value),
            (Self::Nested(pattern), None) => pattern.describes(&Value::Null),
            (Self::Leaf(values, tests), Some(Value::Array(items))) => {
                items.iter().any(|item| values.have(item) || tests.iter().any(|test| test.holds(Some(item))))
            }
            // What has fields is no value.
            (Self::Leaf(_, tests), Some(Value::Object(_)) | None) => {
                tests.iter().any(|test| test.holds(None))
            }
            (Self::Leaf(values, tests), Some(value)) => {
                values.have(value) || tests.iter().any(|test| test.holds(Some(value)))
            }
        }
    }
}

impl Values {
    fn add(&mut self, value: &Value, place: &str) -> Result<(), PatternError> {
        match value {
            Value::String(text) => drop(self.texts.insert(text.clone())),
            Value::Number(number) => drop(self.numbers.insert(bits(number))),
            Value::Bool(yes) => self.booleans[usize::from(*yes)] = true,
            Value::Null => self.null = true,
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong(place, "a list among its values means nothing"));
            }
        }
        Ok(())
    }

    fn have(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.texts.contains(text),
            Value::Number(number) => self.numbers.contains(&bits(number)),
            Value::Bool(yes) => self.booleans[usize::from(*yes)],
            Value::Null => self.null,
            Value::Array(_) | Value::Object(_) => false,
        }
    }
}

fn bits(number: &Number) -> u64 {
    // There is one zero.
    (number.as_f64().unwrap_or(f64::NAN) + 0.0).to_bits()
}

// === impl Test ===

impl Test {
    fn of(members: &Map<String, Value>, place: &str) -> Result<Self, PatternError> {
        let mut members = members.iter();
        let (Some((operator, value)), None) = (members.next(), members.next()) else {
            return Err(wrong(place, "an object among its values has to have one member, an operator"));
        };
        match operator.as_str() {
            "exists" => {
                let exists = value.as_bool();
                exists.map(Self::Exists).ok_or_else(|| wrong(place, "exists has to be true or false"))
            }
            "numeric" => comparisons(value, place).map(Self::Number),
            "anything-but" => Self::none_of(value, place),
            _ => Text::of(operator, value, place).map(Self::Text),
        }
    }

    fn none_of(value: &Value, place: &str) -> Result<Self, PatternError> {
        let mut values = Values::default();
        let mut texts = Vec::new();
        match value {
            Value::Array(all) if !all.is_empty() => all.iter().try_for_each(|one| values.add(one, place))?,
            Value::String(_) | Value::Number(_) => values.add(value, place)?,
            Value::Object(members) if members.len() == 1 => {
                for (operator, value) in members {
                    let all = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
                    for one in all {
                        texts.push(Text::of(operator, one, place)?);
                    }
                }
            }
            _ => {
                let what = "anything-but has to be a value, a list of values, or one text operator";
                return Err(wrong(place, what));
            }
        }
        Ok(Self::NoneOf(values, texts))
    }

    /// Whether a value is like that; `None` stands for none.
    fn holds(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else { return *self == Self::Exists(false) };
        match self {
            Self::Text(text) => value.as_str().is_some_and(|value| text.is_of(value)),
            Self::NoneOf(values, texts) => {
                let one_of = |value| texts.iter().any(|text| text.is_of(value));
                !values.have(value) && !value.as_str().is_some_and(one_of)
            }
            Self::Number(all) => {
                value.as_f64().is_some_and(|value| all.iter().all(|(order, than)| order.holds(value, *than)))
            }
            Self::Exists(exists) => *exists,
        }
    }
}

impl Text {
    fn of(operator: &str, value: &Value, place: &str) -> Result<Self, PatternError> {
        let made = match operator {
            "prefix" => Self::Begins,
            "suffix" => Self::Ends,
            "equals-ignore-case" => |text: String| Self::Same(text.to_lowercase()),
            _ => {
                let known = "prefix, suffix, equals-ignore-case, anything-but, numeric and exists";
                return Err(wrong(place, format!("{operator:.40} is no operator: there are {known}")));
            }
        };
        let text = value.as_str().ok_or_else(|| wrong(place, format!("{operator} has to be text")))?;
        Ok(made(text.to_owned()))
    }

    fn is_of(&self, value: &str) -> bool {
        match self {
            Self::Begins(text) => value.starts_with(text),
            Self::Ends(text) => value.ends_with(text),
            Self::Same(text) => value.to_lowercase() == *text,
        }
    }
}

impl Order {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::More,
            ">=" => Self::AtLeast,
            _ => return None,
        })
    }

    fn holds(self, value: f64, than: f64) -> bool {
        match self {
            Self::Equal => value.total_cmp(&than).is_eq(),
            Self::Less => value < than,
            Self::AtMost => value <= than,
            Self::More => value > than,
            Self::AtLeast => value >= than,
        }
    }
}

/// One comparison, or a lower and an upper bound.
fn comparisons(value: &Value, place: &str) -> Result<Vec<(Order, f64)>, PatternError> {
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    let read = |pair: &[Value]| {
        let [order, number] = pair else { return None };
        let number = number.as_f64().filter(|number| number.abs() <= LARGEST)?;
        Some((Order::of(order.as_str()?)?, number))
    };
    let read: Option<Vec<_>> = all.chunks(2).map(read).collect();
    let is_lower = |order: Order| matches!(order, Order::More | Order::AtLeast);
    match read.as_deref() {
        Some([_]) => Ok(read.unwrap_or_default()),
        Some([(lower, from), (upper, to)])
            if is_lower(*lower) && matches!(upper, Order::Less | Order::AtMost) && from < to =>
        {
            Ok(read.unwrap_or_default())
        }
        _ => {
            let what = "numeric has to be a comparison (=, <, <=, >, >=) and a number within 5e9 of zero, or a lower bound and an \
                        upper one";
            Err(wrong(place, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pattern_describes_what_it_says() {
        let document = json!({
            "a": "Text", "n": 5, "t": true, "null": null, "list": ["x", 7], "in": {"b": "deep", "c": {"d": 1.5}},
            "all": [{"k": "p", "v": 1}, {"k": "q", "v": 2}], "empty": "",
        });
        for (pattern, wanted) in [
            (json!({"a": ["Text"]}), true),
            (json!({"a": ["text"]}), false),
            (json!({"a": ["no", "Text"]}), true),
            (json!({"a": ["Text"], "n": [6]}), false),
            (json!({"n": [5.0]}), true),
            (json!({"n": [{"anything-but": [5.0, 6]}]}), false),
            (json!({"t": [{"anything-but": [false]}]}), true),
            (json!({"n": ["5"]}), false),
            (json!({"t": [true]}), true),
            (json!({"null": [null]}), true),
            (json!({"missing": [null]}), false),
            (json!({"empty": [""]}), true),
            (json!({"list": [7]}), true),
            (json!({"list": [8]}), false),
            (json!({"in": {"b": ["deep"], "c": {"d": [1.5]}}}), true),
            (json!({"in": {"b": ["deep"], "c": {"d": [2]}}}), false),
            (json!({"in": ["deep"]}), false),
            (json!({"a": {"b": ["Text"]}}), false),
            // One member of the list has to be all of it.
            (json!({"all": {"k": ["p"], "v": [1]}}), true),
            (json!({"all": {"k": ["p"], "v": [2]}}), false),
            (json!({"a": [{"prefix": "Te"}]}), true),
            (json!({"a": [{"suffix": "xT"}]}), false),
            (json!({"a": [{"suffix": "xt"}]}), true),
            (json!({"a": [{"equals-ignore-case": "tEXT"}]}), true),
            (json!({"n": [{"prefix": "5"}]}), false),
            (json!({"a": [{"anything-but": "Text"}]}), false),
            (json!({"a": [{"anything-but": ["a", "b"]}]}), true),
            (json!({"a": [{"anything-but": {"prefix": "Te"}}]}), false),
            (json!({"a": [{"anything-but": {"suffix": ["a", "b"]}}]}), true),
            (json!({"missing": [{"anything-but": "x"}]}), false),
            (json!({"n": [{"numeric": ["=", 5]}]}), true),
            (json!({"n": [{"numeric": [">", 0, "<=", 5]}]}), true),
            (json!({"n": [{"numeric": [">", 5]}]}), false),
            (json!({"a": [{"numeric": [">", 0]}]}), false),
            (json!({"a": [{"exists": true}]}), true),
            (json!({"a": [{"exists": false}]}), false),
            (json!({"missing": [{"exists": false}]}), true),
            (json!({"missing": [{"exists": false}, "x"]}), true),
            (json!({"missing": {"below": [{"exists": false}]}}), true),
            (json!({"in": [{"exists": true}]}), false),
            (json!({"$or": [{"a": ["no"]}, {"n": [5]}]}), true),
            (json!({"$or": [{"a": ["no"]}, {"n": [6]}]}), false),
            (json!({"$or": [{"a": ["no"]}, {"n": [5]}], "t": [false]}), false),
            (json!({"in": {"$or": [{"b": ["no"]}, {"c": {"d": [{"numeric": [">", 1]}]}}]}}), true),
        ] {
            assert_eq!(
                Pattern::read(&pattern.to_string()).unwrap().describes(&document),
                wanted,
                "{pattern}"
            );
        }
        let flat = Pattern::read(r#"{"body": {"x": [{"exists": true}]}}"#).unwrap();
        assert!(!flat.describes(&json!({"body": "text"})));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_place_and_what_to_do() {
        for (text, said) in [
            ("", "no JSON"),
            ("[]", "the pattern: it has to be an object"),
            ("{}", "the pattern: it says nothing"),
            (r#"{"a": {}}"#, "a: it says nothing"),
            (r#"{"a": []}"#, "a: it has to be an object or a list of values"),
            (r#"{"a": "x"}"#, "a: it has to be an object or a list of values"),
            (r#"{"a": {"b": [["x"]]}}"#, "a.b: a list among its values means nothing"),
            (r#"{"a": [{"like": "x"}]}"#, "like is no operator: there are prefix"),
            (r#"{"a": [{"prefix": "x", "suffix": "y"}]}"#, "one member, an operator"),
            (r#"{"a": [{"prefix": 1}]}"#, "prefix has to be text"),
            (r#"{"a": [{"exists": "yes"}]}"#, "exists has to be true or false"),
            (r#"{"a": [{"numeric": []}]}"#, "numeric has to be"),
            (r#"{"a": [{"numeric": [">"]}]}"#, "numeric has to be"),
            (r#"{"a": [{"numeric": [">", 1, "<", 1]}]}"#, "numeric has to be"),
            (r#"{"a": [{"numeric": ["<", 1, ">", 0]}]}"#, "numeric has to be"),
            (r#"{"a": [{"numeric": [">", 1e10]}]}"#, "numeric has to be"),
            (r#"{"a": [{"anything-but": []}]}"#, "anything-but has to be"),
            (r#"{"a": [{"anything-but": [{"prefix": "a"}]}]}"#, "a list among its values means nothing"),
            (r#"{"$or": {"a": ["x"]}}"#, "$or: it has to be a list of two patterns or more"),
            (r#"{"$or": [{"a": ["x"]}]}"#, "$or: it has to be a list of two patterns or more"),
        ] {
            let error = Pattern::read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let deep = format!("{}{}", r#"{"a":"#.repeat(2_000), "}".repeat(2_000));
        assert!(Pattern::read(&deep).unwrap_err().to_string().contains("no JSON"));
    }
}
